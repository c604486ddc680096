"""A small workflow that writes the states it is told to, for tests of what follows operations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

from temporalio import activity, workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.common import RetryPolicy, SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from temporalio.exceptions import ApplicationError
from temporalio.worker import Interceptor, UnsandboxedWorkflowRunner, Worker

from contracts.base import utc_now
from contracts.operations import (
    ATTRIBUTE_KIND,
    MEMO_STATE,
    Operation,
    OperationKind,
    OperationState,
    OperationStatus,
    StepHeartbeat,
    StepStatus,
    kind_of,
    operation_id,
)
from infrastructure.temporal.operation_history import TENANTS_ATTRIBUTE, USER_ATTRIBUTE
from workflows.state_publication import publish_state

OWNER = "usr_owner"
TENANT = "ten_home"
_KIND = SearchAttributeKey.for_keyword(ATTRIBUTE_KIND)


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
            _write(state)
            if order == "anew":
                workflow.continue_as_new(memo={MEMO_STATE: state.to_memo()})
            if order == "end":
                return
            if order == "fail":
                raise ApplicationError("It failed.")

    @workflow.signal
    def order(self, word: str) -> None:
        self._orders.append(word)


@workflow.defn
class Laborious:
    """One step that takes long, in an activity that heartbeats and fails once."""

    @workflow.run
    async def run(self) -> None:
        state = OperationState.model_validate(workflow.memo_value(MEMO_STATE, type_hint=dict))
        first, *others = state.steps
        begun = first.model_copy(update={"status": StepStatus.RUNNING, "attempt": 1, "started_at": workflow.now()})
        upsert = state.model_copy(update={"revision": 1, "steps": (begun, *others)})
        _write(upsert)
        await workflow.execute_activity(
            labour,
            start_to_close_timeout=timedelta(seconds=30),
            heartbeat_timeout=timedelta(seconds=5),
            retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1.5), maximum_attempts=2),
        )
        upsert = upsert.model_copy(update={"revision": 2, "status": OperationStatus.COMPLETED})
        _write(upsert)


def _write(state: OperationState) -> None:
    workflow.upsert_memo({MEMO_STATE: state.to_memo()})
    kind = kind_of(workflow.info().workflow_id)
    assert kind is not None
    publish_state(kind, state)


@activity.defn
async def labour() -> None:
    if activity.info().attempt == 1:
        for fraction in (0.25, 0.5):
            activity.heartbeat(StepHeartbeat(fraction=fraction))
            await asyncio.sleep(2)
        raise ApplicationError("A service does not answer.", type="EXTERNAL")
    activity.heartbeat(StepHeartbeat(fraction=0.1))
    await asyncio.sleep(2)


class Script:
    """A running operation of the owner's that moves when a test says so."""

    def __init__(self, handle: WorkflowHandle[Any, Any]) -> None:
        self.handle = handle
        self.id = handle.id

    async def move(self) -> None:
        await self.handle.signal(Scripted.order, "move")

    async def go_on_as_new(self) -> None:
        await self.handle.signal(Scripted.order, "anew")

    async def fail(self) -> None:
        await self.handle.signal(Scripted.order, "fail")

    async def end(self) -> None:
        await self.handle.signal(Scripted.order, "end")


@asynccontextmanager
async def scripts(client: Client, *, interceptors: Sequence[Interceptor] = ()) -> AsyncIterator[ScriptStarter]:
    """A worker for scripted operations on a queue of its own."""
    queue = f"scripted-{uuid4().hex}"
    async with Worker(
        client,
        task_queue=queue,
        workflows=[Scripted, Laborious],
        activities=[labour],
        workflow_runner=UnsandboxedWorkflowRunner(),
        interceptors=interceptors,
    ):
        yield ScriptStarter(client, queue)


class ScriptStarter:
    def __init__(self, client: Client, queue: str) -> None:
        self._client = client
        self._queue = queue

    async def start(
        self,
        kind: OperationKind = OperationKind.TENANT_SWITCH,
        *,
        user_id: str = OWNER,
        tenant_id: str = TENANT,
        leads_to: Sequence[str] = (),
        tries: int = 1,
        with_kind: bool = False,
    ) -> Script:
        """``leads_to``: further tenants; ``tries`` of the workflow, by its retry policy; ``with_kind``: the reconciler
        finds it.
        """
        tenant_ids = (tenant_id, *leads_to)
        return Script(await self._start("Scripted", kind, user_id, tenant_ids, tries=tries, with_kind=with_kind))

    async def start_labour(self) -> str:
        return (await self._start("Laborious", OperationKind.FILE_PROCESSING, OWNER)).id

    async def _start(
        self,
        workflow: str,
        kind: OperationKind,
        user_id: str,
        tenant_ids: Sequence[str] = (TENANT,),
        *,
        tries: int = 1,
        with_kind: bool = False,
    ) -> WorkflowHandle[Any, Any]:
        kinds = [SearchAttributePair(_KIND, kind.value)] if with_kind else []
        return await self._client.start_workflow(
            workflow,
            id=operation_id(b"", kind, tenant_id="", user_id="", key=None),
            task_queue=self._queue,
            memo={MEMO_STATE: OperationState.first(kind, utc_now(), started_by=user_id).to_memo()},
            search_attributes=TypedSearchAttributes(
                [
                    *kinds,
                    SearchAttributePair(USER_ATTRIBUTE, user_id),
                    SearchAttributePair(TENANTS_ATTRIBUTE, list(tenant_ids)),
                ]
            ),
            retry_policy=RetryPolicy(initial_interval=timedelta(seconds=0.1), maximum_attempts=tries),
        )


async def next_of(states: AsyncIterator[Operation], seconds: float = 15) -> Operation:
    """Return the next state of the stream, for which the test waits so many seconds at most."""
    async with asyncio.timeout(seconds):
        return await anext(states)
