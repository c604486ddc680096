"""A small workflow that writes the states it is told to, for tests of what follows operations."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

from temporalio import workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from contracts.base import utc_now
from contracts.operations import MEMO_STATE, OperationKind, OperationState, OperationStatus, operation_id
from resolvers.history import TENANTS, USER

OWNER = "usr_owner"
TENANT = "ten_home"


@workflow.defn
class Scripted:
    """Counts its revision up at each signal; ends, or goes on as a new run, when told."""

    def __init__(self) -> None:
        self._orders: list[str] = []

    @workflow.run
    async def run(self) -> None:
        state = OperationState.model_validate(workflow.memo_value(MEMO_STATE, type_hint=dict))
        while True:
            await workflow.wait_condition(lambda: bool(self._orders))
            order = self._orders.pop(0)
            state = state.model_copy(
                update={
                    "revision": state.revision + 1,
                    "status": OperationStatus.COMPLETED if order == "end" else OperationStatus.RUNNING,
                }
            )
            workflow.upsert_memo({MEMO_STATE: state.to_memo()})
            if order == "anew":
                workflow.continue_as_new(memo={MEMO_STATE: state.to_memo()})
            if order == "end":
                return

    @workflow.signal
    def order(self, word: str) -> None:
        self._orders.append(word)


class Script:
    """A running operation of the owner's that moves when a test says so."""

    def __init__(self, handle: WorkflowHandle[Scripted, None]) -> None:
        self.handle = handle
        self.id = handle.id

    async def move(self) -> None:
        await self.handle.signal(Scripted.order, "move")

    async def go_on_as_new(self) -> None:
        await self.handle.signal(Scripted.order, "anew")

    async def end(self) -> None:
        await self.handle.signal(Scripted.order, "end")


@asynccontextmanager
async def scripts(client: Client) -> AsyncIterator[ScriptStarter]:
    """A worker for scripted operations on a queue of its own."""
    queue = f"scripted-{uuid4().hex}"
    async with Worker(client, task_queue=queue, workflows=[Scripted], workflow_runner=UnsandboxedWorkflowRunner()):
        yield ScriptStarter(client, queue)


class ScriptStarter:
    def __init__(self, client: Client, queue: str) -> None:
        self._client = client
        self._queue = queue

    async def start(self, kind: OperationKind = OperationKind.TENANT_SWITCH, *, user_id: str = OWNER) -> Script:
        handle = await self._client.start_workflow(
            Scripted.run,
            id=operation_id(b"", kind, tenant_id="", user_id="", key=None),
            task_queue=self._queue,
            memo={MEMO_STATE: OperationState.first(kind, utc_now(), started_by=user_id).to_memo()},
            search_attributes=TypedSearchAttributes(
                [SearchAttributePair(USER, user_id), SearchAttributePair(TENANTS, [TENANT])]
            ),
        )
        return Script(handle)
