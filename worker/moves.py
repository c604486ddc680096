"""Tells that an operation has moved as soon as its workflow has written so: feeds of the gateway wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeAlias

from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.converter import SerializationContext, StorageDriverStoreContext
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner
from temporalio.worker._command_aware_visitor import CommandInfo
from temporalio.workflow import Info, _Definition

from infrastructure.change_notifications import Wakeups
from infrastructure.tasks import supervised

_TOLD_AFTER_SECONDS = 0.02
"""Temporal has the new state only once the worker's answer has reached it. What moves meanwhile is told with it."""
_MOVES = frozenset(
    (
        "modify_workflow_properties",
        "complete_workflow_execution",
        "fail_workflow_execution",
        "cancel_workflow_execution",
        "continue_as_new_workflow_execution",
    )
)
"""The commands of a workflow that clients see something of."""


Closed: TypeAlias = Callable[[Info, str], None]
"""Is told of each workflow's last command, by its name; of one that goes on, of any."""


class Moves:
    """One a process."""

    def __init__(self, wakeups: Wakeups, closed: Closed) -> None:
        self._wakeups = wakeups
        self._closed = closed
        self._moved: dict[str, None] = {}
        self._news = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def seen_by(self, runner: WorkflowRunner) -> WorkflowRunner:
        """The runner, whose workflows' moves are told."""
        return _Runner(runner, self._note, self._closed)

    @asynccontextmanager
    async def told(self) -> AsyncIterator[None]:
        """While the block runs they are told."""
        async with supervised(self._tell, name="tell which operations moved"):
            yield

    def _note(self, operation_id: str) -> None:
        """From a workflow's thread."""
        self._loop.call_soon_threadsafe(self._take, operation_id)

    def _take(self, operation_id: str) -> None:
        self._moved[operation_id] = None
        self._news.set()

    async def _tell(self) -> None:
        while True:
            await self._news.wait()
            await asyncio.sleep(_TOLD_AFTER_SECONDS)
            self._news.clear()
            moved, self._moved = self._moved, {}
            for operation_id in moved:
                await self._wakeups.tell(operation_id)


class _Runner(WorkflowRunner):
    def __init__(self, runner: WorkflowRunner, moved: Callable[[str], None], closed: Closed) -> None:
        self._runner = runner
        self._moved = moved
        self._closed = closed

    def prepare_workflow(self, defn: _Definition) -> None:
        self._runner.prepare_workflow(defn)

    def set_worker_level_failure_exception_types(self, types: Sequence[type[BaseException]]) -> None:
        self._runner.set_worker_level_failure_exception_types(types)

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        return _Instance(self._runner.create_instance(det), self._moved, self._closed)


class _Instance(WorkflowInstance):
    def __init__(self, instance: WorkflowInstance, moved: Callable[[str], None], closed: Closed) -> None:
        self._instance = instance
        self._moved = moved
        self._closed = closed

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        completion = self._instance.activate(act)
        if not act.is_replaying:
            names = [command.WhichOneof("variant") or "" for command in completion.successful.commands]
            if not _MOVES.isdisjoint(names):
                self._moved(self.get_info().workflow_id)
                self._closed(self.get_info(), names[-1])
        return completion

    def get_serialization_context(self, command_info: CommandInfo | None) -> SerializationContext | None:
        return self._instance.get_serialization_context(command_info)

    def get_external_store_context(self, command_info: CommandInfo | None) -> StorageDriverStoreContext:
        return self._instance.get_external_store_context(command_info)

    def get_info(self) -> Info:
        return self._instance.get_info()

    def get_thread_id(self) -> int | None:
        return self._instance.get_thread_id()
