"""The workflow RepairOperation: undo the steps of an operation that ended without undoing them.

That is an operation that was terminated or timed out, or one of whose undos failed.
"""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError

from activities.operations.activities import Operations
from contracts.compensation_repair import EndedOperation
from workflows.activity_call import call
from workflows.compensations import undo_of
from workflows.options import COMPENSATION

_POLL_INTERVAL = timedelta(seconds=1)
_MAX_POLLS = 300
"""Polls of a cancelled run until it has closed: while a service is unavailable, its undos are retried for minutes."""


@workflow.defn
class RepairOperation:
    """Undo the recorded calls of one ended run, newest first; undos are idempotent, so repetitions are harmless.

    If a reset has started another run of the operation, the repair does nothing. If a reset starts another run during
    the repair, the repair cancels that run, because it depends on steps that are undone, and continues.
    """

    @workflow.run
    async def run(self, ended: EndedOperation) -> None:
        recorded = await call(Operations.get_recorded_calls, ended, COMPENSATION)
        failed: list[str] = []
        undos = [(undo, done) for done in reversed(recorded.calls) if (undo := undo_of(done)) is not None]
        if not undos or await call(Operations.is_superseded, ended, COMPENSATION):
            return
        for undo, done in undos:
            try:
                await undo()
            except ActivityError as error:
                workflow.logger.error("undo_failed", exc_info=error)
                failed.append(done.activity)
            await self._cancel_superseding_run(ended)
        if failed:
            raise ApplicationError(f"Not undone: {', '.join(failed)}", non_retryable=True)

    async def _cancel_superseding_run(self, ended: EndedOperation) -> None:
        """Cancel the run that a reset has started in between, if there is one, and wait until it has closed."""
        if not await call(Operations.is_superseded, ended, COMPENSATION):
            return
        for _ in range(_MAX_POLLS):
            if await call(Operations.cancel_current_run, ended, COMPENSATION):
                return
            await workflow.sleep(_POLL_INTERVAL)
        workflow.logger.error("superseding_run_not_closed")
