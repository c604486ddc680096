"""Workflows that publish states on command, for tests of the code that follows operations."""

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
class ScriptedWorkflow:
    """Increments its revision at each signal; completes, fails or continues as a new run on command."""

    def __init__(self) -> None:
        self._commands: list[str] = []

    @workflow.run
    async def run(self) -> None:
        state = OperationState.model_validate(workflow.memo_value(MEMO_STATE, type_hint=dict))
        while True:
            await workflow.wait_condition(lambda: bool(self._commands))
            command = self._commands.pop(0)
            state = state.model_copy(
                update={
                    "revision": state.revision + 1,
                    "status": OperationStatus.COMPLETED if command == "end" else OperationStatus.RUNNING,
                }
            )
            _publish(state)
            if command == "continue_as_new":
                workflow.continue_as_new(memo={MEMO_STATE: state.to_memo()})
            if command == "end":
                return
            if command == "fail":
                raise ApplicationError("It failed.")

    @workflow.signal
    def command(self, command: str) -> None:
        self._commands.append(command)


@workflow.defn
class LongStepWorkflow:
    """Has one long step: an activity that sends heartbeats and fails at the first attempt."""

    @workflow.run
    async def run(self) -> None:
        state = OperationState.model_validate(workflow.memo_value(MEMO_STATE, type_hint=dict))
        first, *others = state.steps
        running = first.model_copy(update={"status": StepStatus.RUNNING, "attempt": 1, "started_at": workflow.now()})
        started = state.model_copy(update={"revision": 1, "steps": (running, *others)})
        _publish(started)
        await workflow.execute_activity(
            run_long_step,
            start_to_close_timeout=timedelta(seconds=30),
            heartbeat_timeout=timedelta(seconds=5),
            retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1.5), maximum_attempts=2),
        )
        started = started.model_copy(update={"revision": 2, "status": OperationStatus.COMPLETED})
        _publish(started)


def _publish(state: OperationState) -> None:
    workflow.upsert_memo({MEMO_STATE: state.to_memo()})
    kind = kind_of(workflow.info().workflow_id)
    assert kind is not None
    publish_state(kind, state)


@activity.defn
async def run_long_step() -> None:
    """Send heartbeats and fail at the first attempt; complete at the second one."""
    if activity.info().attempt == 1:
        for fraction in (0.25, 0.5):
            activity.heartbeat(StepHeartbeat(fraction=fraction))
            await asyncio.sleep(2)
        raise ApplicationError("A service does not answer.", type="EXTERNAL")
    activity.heartbeat(StepHeartbeat(fraction=0.1))
    await asyncio.sleep(2)


class Script:
    """A running operation of ``OWNER`` whose states a test controls."""

    def __init__(self, handle: WorkflowHandle[Any, Any], client: Client) -> None:
        self.handle = handle
        self.client = client
        self.id = handle.id

    async def move(self) -> None:
        """Let the operation publish a state with the next revision."""
        await self.handle.signal(ScriptedWorkflow.command, "move")

    async def continue_as_new(self) -> None:
        """Let the operation continue as a new run."""
        await self.handle.signal(ScriptedWorkflow.command, "continue_as_new")

    async def fail(self) -> None:
        """Let the current run fail."""
        await self.handle.signal(ScriptedWorkflow.command, "fail")

    async def end(self) -> None:
        """Let the operation complete."""
        await self.handle.signal(ScriptedWorkflow.command, "end")


@asynccontextmanager
async def scripts(client: Client, *, interceptors: Sequence[Interceptor] = ()) -> AsyncIterator[ScriptStarter]:
    """Run a worker for scripted operations on a task queue of its own, and yield a starter for them."""
    queue = f"scripted-{uuid4().hex}"
    async with Worker(
        client,
        task_queue=queue,
        workflows=[ScriptedWorkflow, LongStepWorkflow],
        activities=[run_long_step],
        workflow_runner=UnsandboxedWorkflowRunner(),
        interceptors=interceptors,
    ):
        yield ScriptStarter(client, queue)


class ScriptStarter:
    """Starts scripted operations on the task queue of its worker."""

    def __init__(self, client: Client, queue: str) -> None:
        self._client = client
        self._queue = queue

    async def start(
        self,
        kind: OperationKind = OperationKind.TENANT_SWITCH,
        *,
        user_id: str = OWNER,
        tenant_id: str = TENANT,
        further_tenant_ids: Sequence[str] = (),
        max_attempts: int = 1,
        with_kind: bool = False,
    ) -> Script:
        """Start a scripted operation.

        Args:
            further_tenant_ids: Tenants after the first one, such as the target of a tenant switch.
            max_attempts: Attempts of the workflow by its retry policy.
            with_kind: Set the search attribute by which the repair scheduler finds the operation.
        """
        tenant_ids = (tenant_id, *further_tenant_ids)
        handle = await self._start(
            "ScriptedWorkflow", kind, user_id, tenant_ids, max_attempts=max_attempts, with_kind=with_kind
        )
        return Script(handle, self._client)

    async def start_long_step(self) -> str:
        """Start a ``LongStepWorkflow`` and return its operation id."""
        return (await self._start("LongStepWorkflow", OperationKind.FILE_PROCESSING, OWNER)).id

    async def _start(
        self,
        workflow: str,
        kind: OperationKind,
        user_id: str,
        tenant_ids: Sequence[str] = (TENANT,),
        *,
        max_attempts: int = 1,
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
            retry_policy=RetryPolicy(initial_interval=timedelta(seconds=0.1), maximum_attempts=max_attempts),
        )


async def next_of(states: AsyncIterator[Operation], seconds: float = 15) -> Operation:
    """Return the next state of the stream; wait at most ``seconds``."""
    async with asyncio.timeout(seconds):
        return await anext(states)
