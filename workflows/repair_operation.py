"""Take back what an operation did that was terminated or timed out, or whose own undo did not succeed."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError

from activities.operations.activities import Operations
from contracts.compensation_repair import EndedOperation
from workflows.activity_call import call
from workflows.compensations import undo_of
from workflows.options import COMPENSATION

_LOOK_INTERVAL = timedelta(seconds=1)
_LOOKS = 300
"""At a run that is cancelled, until it has closed: its undos are tried again for minutes while a service is away."""


@workflow.defn
class RepairOperation:
    """Newest first, as the operation itself would have done. The ledger makes it harmless to undo what is undone.

    If a reset has begun another run of the operation, it leaves that run alone. If it has undone a part by then, it
    cancels that run and goes on.
    """

    @workflow.run
    async def run(self, ended: EndedOperation) -> None:
        done = await call(Operations.effects_of, ended, COMPENSATION)
        failed: list[str] = []
        undos = [(undo, effect) for effect in reversed(done.effects) if (undo := undo_of(effect)) is not None]
        if not undos or await call(Operations.is_superseded, ended, COMPENSATION):
            return
        for undo, effect in undos:
            try:
                await undo()
            except ActivityError as error:
                workflow.logger.error("An undo failed", exc_info=error)
                failed.append(effect.activity)
            await self._end_other_run(ended)
        if failed:
            raise ApplicationError(f"Not undone: {', '.join(failed)}", non_retryable=True)

    async def _end_other_run(self, ended: EndedOperation) -> None:
        """Cancel a run that a reset has begun since, for a part of what it builds on is undone; wait for its end."""
        if not await call(Operations.is_superseded, ended, COMPENSATION):
            return
        for _ in range(_LOOKS):
            if await call(Operations.cancel_current_run, ended, COMPENSATION):
                return
            await workflow.sleep(_LOOK_INTERVAL)
        workflow.logger.error("A run goes on of which a part has been undone")
