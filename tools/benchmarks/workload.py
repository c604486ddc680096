"""Workflows that change their state on a signal, and ``python -m tools.benchmarks.workload QUEUE``, their worker.

The worker publishes change notifications like the workers of the product.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from temporalio import workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from contracts.base import utc_now
from contracts.operations import MEMO_STATE, OperationKind, OperationState, OperationStatus, operation_id
from infrastructure.temporal.codec import KeyRing
from infrastructure.temporal.connection import connect, exit_process
from infrastructure.temporal.operation_history import TENANTS_ATTRIBUTE, USER_ATTRIBUTE
from tests.redis_access import open_change_notifier
from worker.progress_notifier import ProgressNotifier
from workflows.state_publication import publish_state

KIND = OperationKind.TENANT_SWITCH
Handle = WorkflowHandle[Any, Any]


@workflow.defn
class Workload:
    """Increments its revision at each signal and completes at the argument ``end``. A query returns its state."""

    def __init__(self) -> None:
        self._commands: list[str] = []
        self._state: OperationState | None = None

    @workflow.run
    async def run(self) -> None:
        self._state = state = OperationState.model_validate(workflow.memo_value(MEMO_STATE, type_hint=dict))
        while not state.status.is_closed:
            await workflow.wait_condition(lambda: bool(self._commands))
            status = OperationStatus.COMPLETED if self._commands.pop(0) == "end" else OperationStatus.RUNNING
            self._state = state = state.model_copy(update={"revision": state.revision + 1, "status": status})
            workflow.upsert_memo({MEMO_STATE: state.to_memo()})
            publish_state(KIND, state)

    @workflow.signal
    def change(self, command: str) -> None:
        self._commands.append(command)

    @workflow.query
    def state(self) -> dict[str, Any]:
        return {} if self._state is None else self._state.to_memo()


class WorkloadStarter:
    """Starts workload operations of one user."""

    def __init__(self, client: Client, queue: str, user_id: str, tenant_id: str) -> None:
        self._client = client
        self._queue = queue
        self._user_id = user_id
        self._tenant_id = tenant_id

    async def start(self, count: int, *, max_concurrent: int = 50) -> list[Handle]:
        semaphore = asyncio.Semaphore(max_concurrent)

        async def one() -> Handle:
            async with semaphore:
                return await self._client.start_workflow(
                    "Workload",
                    id=operation_id(b"", KIND, tenant_id="", user_id="", key=None),
                    task_queue=self._queue,
                    memo={MEMO_STATE: OperationState.first(KIND, utc_now(), started_by=self._user_id).to_memo()},
                    search_attributes=TypedSearchAttributes(
                        [
                            SearchAttributePair(USER_ATTRIBUTE, self._user_id),
                            SearchAttributePair(TENANTS_ATTRIBUTE, [self._tenant_id]),
                        ]
                    ),
                )

        return list(await asyncio.gather(*(one() for _ in range(count))))


async def change_states(handles: Iterable[Handle], *, per_second: float, command: str = "change") -> None:
    """Signal each operation once, at a constant rate; the number of pending signals is bounded."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    running: set[asyncio.Task[None]] = set()
    for handle in handles:
        await asyncio.sleep(max(0.0, due - loop.time()))
        due += 1 / per_second
        task = asyncio.create_task(handle.signal(Workload.change, command))
        running.add(task)
        task.add_done_callback(running.discard)
        if len(running) >= 100:
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.gather(*running)


async def history_times(client: Client, operations: Iterable[str]) -> Mapping[tuple[str, int], int]:
    """Return when Temporal wrote each revision into the history, in nanoseconds of the wall clock."""
    times: dict[tuple[str, int], int] = {}
    semaphore = asyncio.Semaphore(20)

    async def read(operation: str) -> None:
        async with semaphore:
            history = await client.get_workflow_handle(operation).fetch_history()
        for event in history.events:
            memo = event.workflow_properties_modified_event_attributes.upserted_memo
            if MEMO_STATE in memo.fields:
                (state,) = await client.data_converter.decode([memo.fields[MEMO_STATE]], [OperationState])
                times[operation, state.revision] = event.event_time.ToNanoseconds()

    await asyncio.gather(*(read(operation) for operation in operations))
    return times


async def run_worker(queue: str) -> None:
    """Run the worker until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    keys = KeyRing.parse(os.environ["CODEC_KEYS"])
    client = await connect(address=os.environ["TEMPORAL_ADDRESS"], namespace=None, keys=keys)
    async with open_change_notifier(os.environ["REDIS_URL"]) as change_notifier:
        notifier = ProgressNotifier(change_notifier, lambda _info, _outcome: None, ())
        async with (
            notifier.running(),
            Worker(
                client,
                task_queue=queue,
                workflows=[Workload],
                workflow_runner=UnsandboxedWorkflowRunner(),
                interceptors=[notifier],
                max_cached_workflows=12_000,
                max_concurrent_workflow_tasks=50,
            ),
        ):
            await stop.wait()


if __name__ == "__main__":
    asyncio.run(run_worker(sys.argv[1]))
    exit_process(0)
