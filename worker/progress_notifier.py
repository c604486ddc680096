"""Publish each new state of an operation: a change notification for clients, and the state for listeners."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from temporalio import workflow
from temporalio.worker import (
    ExecuteWorkflowInput,
    Interceptor,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)
from temporalio.workflow import Info

from contracts.operations import Operation
from infrastructure.change_notifications import ChangeNotifier
from infrastructure.tasks import supervised
from workflows.state_publication import PUBLISH_STATE

_COALESCE_SECONDS = 0.02
"""Temporal has a new state only once the workflow task has completed; changes within this time are published once."""
_WORKFLOW_CLOSED = "workflow_closed"

Closed: TypeAlias = Callable[[Info, str], None]
"""Receives the workflow and its outcome: ``completed``, ``failed`` or ``cancelled``."""
StateListener: TypeAlias = Callable[[Operation], None]
"""Receives each new state; returns at once."""


class ProgressNotifier(Interceptor):
    """One per process. It is the first interceptor of its workers, so that it sees the outcome of each workflow."""

    def __init__(self, change_notifier: ChangeNotifier, on_closed: Closed, listeners: Sequence[StateListener]) -> None:
        self._change_notifier = change_notifier
        self._on_closed = on_closed
        self._listeners = listeners
        self._changed: dict[str, None] = {}
        self._has_changes = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type[WorkflowInboundInterceptor]:
        input.unsafe_extern_functions[PUBLISH_STATE] = self._publish
        input.unsafe_extern_functions[_WORKFLOW_CLOSED] = self._workflow_closed
        return _Workflows

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send change notifications while the block runs."""
        async with supervised(self._notify, name="send change notifications"):
            yield

    def _publish(self, operation: Operation) -> None:
        """Called in the thread of a workflow."""
        self._loop.call_soon_threadsafe(self._handle_state, operation)

    def _workflow_closed(self, info: Info, outcome: str) -> None:
        """Called in the thread of a workflow."""
        self._on_closed(info, outcome)
        self._loop.call_soon_threadsafe(self.mark_changed, info.workflow_id)

    def _handle_state(self, operation: Operation) -> None:
        for listener in self._listeners:
            listener(operation)
        self.mark_changed(operation.id)

    def mark_changed(self, operation_id: str) -> None:
        """Send a change notification for the operation soon; must be called in the thread of the event loop."""
        self._changed[operation_id] = None
        self._has_changes.set()

    async def _notify(self) -> None:
        while True:
            await self._has_changes.wait()
            await asyncio.sleep(_COALESCE_SECONDS)
            self._has_changes.clear()
            changed, self._changed = self._changed, {}
            await self._change_notifier.notify_topics(changed)


class _Workflows(WorkflowInboundInterceptor):
    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        try:
            result = await super().execute_workflow(input)
        except asyncio.CancelledError:
            if workflow.cancellation_reason() is not None:
                _report("cancelled")
            raise
        except workflow.ContinueAsNewError:
            raise
        except Exception as error:
            if workflow.is_failure_exception(error):
                _report("failed")
            raise
        _report("completed")
        return result


def _report(outcome: str) -> None:
    if not workflow.unsafe.is_replaying():
        workflow.extern_functions()[_WORKFLOW_CLOSED](workflow.info(), outcome)
