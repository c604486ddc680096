"""The saga of an operation: its steps, their compensations, and the progress in the workflow's memo for clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self, TypeVar

from pydantic import JsonValue
from temporalio import workflow
from temporalio.common import SearchAttributeKey
from temporalio.exceptions import ActivityError

from contracts.auth import MfaChallenge
from contracts.base import Contract
from contracts.compensation_repair import RecordedCall
from contracts.errors import OperationErrorCode
from contracts.operations import (
    ATTRIBUTE_TENANTS,
    MEMO_STATE,
    OperationFailure,
    OperationKind,
    OperationResult,
    OperationState,
    OperationStatus,
    Step,
    StepStatus,
)
from workflows.activity_call import Activity, call
from workflows.compensations import COMPENSATIONS, CompensationStack, undo_of
from workflows.failures import closing_status, is_terminal, retry_schedule_of, to_failure, user_message
from workflows.options import DATABASE, ActivityOptions
from workflows.state_publication import publish_state

Domain = TypeVar("Domain")
Argument = TypeVar("Argument")
CallResult = TypeVar("CallResult")
Result = TypeVar("Result", bound=OperationResult)

_TENANTS = SearchAttributeKey.for_keyword_list(ATTRIBUTE_TENANTS)


class OperationRun:
    """The context of one workflow run of an operation, which encloses the whole body of the workflow.

    ``async with OperationRun(kind) as operation`` executes steps with ``operation.step`` and activities with
    ``operation.call``. If the block ends by a failure or a cancellation, the compensations run, newest first, the memo
    receives the failure for clients, and the error propagates. The memo is written once per workflow task: the end of
    one step and the begin of the next step are one change.
    """

    def __init__(self, kind: OperationKind) -> None:
        memo: dict[str, JsonValue] | None = workflow.memo_value(MEMO_STATE, None, type_hint=dict[str, JsonValue])
        self._state = (
            OperationState.first(kind, workflow.now()) if memo is None else OperationState.model_validate(memo)
        )
        self._kind = kind
        self._compensations = CompensationStack()
        self._step: str | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None or not is_terminal(error):
            return
        cancelled = workflow.cancellation_reason() is not None
        await _shielded(self._close_after(error))
        if cancelled:
            raise asyncio.CancelledError from error

    @property
    def key(self) -> str:
        """The idempotency key of the current step: workflow id and name of the step."""
        return f"{workflow.info().workflow_id}:{self._step}"

    @asynccontextmanager
    async def step(self, name: str) -> AsyncIterator[None]:
        """Execute the block as the named step. A cancellation that arrives during the block is raised at its end."""
        self._begin(name)
        yield
        self._change(name, status=StepStatus.COMPLETED, completed_at=workflow.now(), next_attempt_at=None)
        if workflow.cancellation_reason() is not None:
            raise asyncio.CancelledError
        self._step = None

    @asynccontextmanager
    async def best_effort_step(self, name: str) -> AsyncIterator[None]:
        """Execute the block as a step whose failure or cancellation does not fail the operation: the step is FAILED.

        Such a step must come after all steps with compensations. Code in the block that depends on the success of its
        calls must come last.
        """
        self._begin(name)
        try:
            yield
        except BaseException as error:
            if not is_terminal(error):
                raise
            self._fail(name, user_message(error))
        else:
            self._change(name, status=StepStatus.COMPLETED, completed_at=workflow.now(), next_attempt_at=None)
        self._step = None

    async def call(
        self, activity: Activity[Domain, Argument, CallResult], argument: Argument, options: ActivityOptions = DATABASE
    ) -> CallResult:
        """Execute the activity in the current step, and retry it after faults; clients see each attempt.

        The undo of the activity is registered first, because the activity may take effect although its result is lost.

        Raises:
            ActivityError: the error is final, the attempts are exhausted, or the operation was cancelled.
            TypeError: the activity has a compensation, but its argument has no idempotency key.
        """
        assert self._step is not None, "an activity must be called within a step"
        self._register_undo(self._step, activity.__name__, argument)
        attempts = 1
        while True:
            try:
                return await call(activity, argument, options)
            except ActivityError as error:
                schedule = retry_schedule_of(error)
                is_cancelled = workflow.cancellation_reason() is not None
                if schedule is None or attempts >= schedule.max_attempts or is_cancelled:
                    raise
                delay = schedule.delay(attempts)
                self._change(
                    self._step,
                    status=StepStatus.RETRYING,
                    attempt=self._find(self._step).attempt + 1,
                    last_error=user_message(error),
                    next_attempt_at=workflow.now() + delay,
                )
                self._write()
            attempts += 1
            await workflow.sleep(delay)

    def _register_undo(self, step: str, activity: str, argument: object) -> None:
        if activity not in COMPENSATIONS:
            return
        if not isinstance(argument, Contract):
            raise TypeError(f"{activity} has a compensation, so its argument must have an idempotency key.")
        undo = undo_of(RecordedCall.of(activity, argument))
        if undo is not None:
            self._compensations.push(step, undo)

    def skip(self, name: str) -> None:
        """Mark the step as SKIPPED."""
        self._change(name, status=StepStatus.SKIPPED)

    def wait_for_user(self, challenge: MfaChallenge) -> None:
        """Set the status WAITING with this challenge; the begin of the next step ends the wait."""
        self._write(status=OperationStatus.WAITING, challenge=challenge)

    def set_user(self, user_id: str) -> None:
        """Set the user who started the operation, if it was unknown at the start."""
        self._state = self._state.model_copy(update={"started_by": user_id})

    def set_tenants(self, *tenant_ids: str) -> None:
        """Set the tenants whose lists contain the operation: its own tenant, then the tenant to which it leads."""
        workflow.upsert_search_attributes([_TENANTS.value_set(list(dict.fromkeys(tenant_ids)))])

    def complete(self, result: Result) -> Result:
        """Set the status COMPLETED with the result, and return the result."""
        self._write(status=OperationStatus.COMPLETED, result=result)
        return result

    async def _close_after(self, error: BaseException) -> None:
        failure, status = to_failure(error, self._step), closing_status(error)
        if self._step is not None and self._find(self._step).status is not StepStatus.COMPLETED:
            self._fail(self._step, failure.message)
        compensated = await self._compensate()
        if not compensated:
            failure = _with_failed_compensation(failure)
        self._write(status=status, failure=failure.model_copy(update={"compensated": compensated}), challenge=None)

    async def _compensate(self) -> bool:
        """Run all compensations, newest first, also after one of them fails; return whether all of them succeeded."""
        failed: set[str] = set()
        if self._compensations:
            self._write(status=OperationStatus.COMPENSATING)
        while compensation := self._compensations.pop():
            if not await _succeeds(compensation.undo):
                failed.add(compensation.step)
                self._change(compensation.step, status=StepStatus.COMPENSATION_FAILED)
            self._mark_compensated(after=self._compensations.newest_step)
            if self._compensations:
                self._write()
        self._mark_compensated(after=None)
        return not failed

    def _mark_compensated(self, *, after: str | None) -> None:
        """Mark the completed steps after the named one (None: all steps) as COMPENSATED, also those without an undo."""
        names = [step.name for step in self._state.steps]
        for step in self._state.steps[names.index(after) + 1 if after else 0 :]:
            if step.status is StepStatus.COMPLETED:
                self._change(step.name, status=StepStatus.COMPENSATED)

    def _begin(self, name: str) -> None:
        self._step = name
        self._change(name, status=StepStatus.RUNNING, attempt=1, started_at=workflow.now())
        self._write(status=OperationStatus.RUNNING, challenge=None)

    def _fail(self, name: str, reason: str) -> None:
        self._change(
            name, status=StepStatus.FAILED, completed_at=workflow.now(), last_error=reason, next_attempt_at=None
        )

    def _find(self, name: str) -> Step:
        return next(step for step in self._state.steps if step.name == name)

    def _change(self, name: str, **changes: object) -> None:
        changed = self._find(name).model_copy(update=changes)
        steps = tuple(changed if step.name == name else step for step in self._state.steps)
        self._state = self._state.model_copy(update={"steps": steps})

    def _write(self, **changes: object) -> None:
        self._state = self._state.model_copy(update=changes | {"revision": self._state.revision + 1})
        workflow.upsert_memo({MEMO_STATE: self._state.to_memo()})
        publish_state(self._kind, self._state)


def _with_failed_compensation(failure: OperationFailure) -> OperationFailure:
    return failure.model_copy(
        update={
            "code": OperationErrorCode.COMPENSATION_FAILED,
            "message": f"{failure.message} Not all of it could be undone.",
            "retryable": False,
        }
    )


async def _succeeds(undo: Callable[[], Awaitable[None]]) -> bool:
    try:
        await undo()
    except BaseException as error:
        if not is_terminal(error):
            raise
        workflow.logger.error("undo_failed", exc_info=error)
        return False
    return True


async def _shielded(work: Awaitable[None]) -> None:
    """Await the work to its end despite cancellations, which would leave data partly undone."""
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise
    task.result()
