"""The run of an operation: its steps, the undo of what they did, and the progress in its memo that clients see."""

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
from workflows.failures import closing_status, describe, is_terminal, retry_of, words
from workflows.options import DATABASE, ActivityOptions
from workflows.state_publication import publish_state

Domain = TypeVar("Domain")
Argument = TypeVar("Argument")
Answer = TypeVar("Answer")
Result = TypeVar("Result", bound=OperationResult)

_TENANTS = SearchAttributeKey.for_keyword_list(ATTRIBUTE_TENANTS)


class OperationRun:
    """One run of an operation, from its first step to its close.

    ``async with OperationRun(kind) as operation`` spans the whole workflow. Leaving it by a failure or a cancellation
    undoes what was done, newest first, tells the client why, and lets the error go on. The memo is written once a
    workflow task: the end of one step and the begin of the next are one change.
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
        await _to_its_end(self._end_by(error))
        if cancelled:
            raise asyncio.CancelledError from error

    @property
    def key(self) -> str:
        """The idempotency key of the step under way: workflow id and step."""
        return f"{workflow.info().workflow_id}:{self._step}"

    @asynccontextmanager
    async def step(self, name: str) -> AsyncIterator[None]:
        """The named step, RUNNING while the block runs. A cancellation that came meanwhile is raised at its end."""
        self._begin(name)
        yield
        self._change(name, status=StepStatus.COMPLETED, completed_at=workflow.now(), next_attempt_at=None)
        if workflow.cancellation_reason() is not None:
            raise asyncio.CancelledError
        self._step = None

    @asynccontextmanager
    async def best_effort_step(self, name: str) -> AsyncIterator[None]:
        """The named step, behind all that can be undone: where it fails, or a cancellation cuts it short, it is FAILED
        and the operation goes on. What else its block has to do it does last."""
        self._begin(name)
        try:
            yield
        except BaseException as error:
            if not is_terminal(error):
                raise
            self._fail(name, words(error))
        else:
            self._change(name, status=StepStatus.COMPLETED, completed_at=workflow.now(), next_attempt_at=None)
        self._step = None

    async def call(
        self, activity: Activity[Domain, Argument, Answer], argument: Argument, options: ActivityOptions = DATABASE
    ) -> Answer:
        """Call the activity for the step under way, and again after a failed attempt.

        Clients see each attempt with its reason.

        If the activity has an effect, its undo is registered first: it may act and lose its answer.
        """
        assert self._step is not None, "a call belongs to a step"
        self._register_undo(self._step, activity.__name__, argument)
        tries = 1
        while True:
            try:
                return await call(activity, argument, options)
            except ActivityError as error:
                retry = retry_of(error)
                if retry is None or tries >= retry.tries or workflow.cancellation_reason() is not None:
                    raise
                delay = retry.delay(tries)
                self._change(
                    self._step,
                    status=StepStatus.RETRYING,
                    attempt=self._of(self._step).attempt + 1,
                    last_error=words(error),
                    next_attempt_at=workflow.now() + delay,
                )
                self._write()
            tries += 1
            await workflow.sleep(delay)

    def _register_undo(self, step: str, activity: str, argument: object) -> None:
        if activity not in COMPENSATIONS:
            return
        if not isinstance(argument, Contract):
            raise TypeError(f"{activity} has an effect, so its argument must have an idempotency key.")
        undo = undo_of(RecordedCall.of(activity, argument))
        if undo is not None:
            self._compensations.push(step, undo)

    def skip(self, name: str) -> None:
        self._change(name, status=StepStatus.SKIPPED)

    def wait(self, challenge: MfaChallenge) -> None:
        """The step under way waits for the user; the next step ends the wait."""
        self._write(status=OperationStatus.WAITING, challenge=challenge)

    def identified(self, user_id: str) -> None:
        """Whose operation it is, now that it is known."""
        self._state = self._state.model_copy(update={"started_by": user_id})

    def belongs_to(self, *tenant_ids: str) -> None:
        """In whose lists it stands: the tenant it belongs to, then any other that it leads to."""
        workflow.upsert_search_attributes([_TENANTS.value_set(list(dict.fromkeys(tenant_ids)))])

    def complete(self, result: Result) -> Result:
        """The last word of a run that went well."""
        self._write(status=OperationStatus.COMPLETED, result=result)
        return result

    async def _end_by(self, error: BaseException) -> None:
        failure, status = describe(error, self._step), closing_status(error)
        if self._step is not None and self._of(self._step).status is not StepStatus.COMPLETED:
            self._fail(self._step, failure.message)
        compensated = await self._compensate()
        if not compensated:
            failure = _not_undone(failure)
        self._write(status=status, failure=failure.model_copy(update={"compensated": compensated}), challenge=None)

    async def _compensate(self) -> bool:
        """Take all back, newest first; an undo that fails is recorded and the rest go on. True where all is undone."""
        failed: set[str] = set()
        if self._compensations:
            self._write(status=OperationStatus.COMPENSATING)
        while entry := self._compensations.pop():
            if not await _succeeds(entry.undo):
                failed.add(entry.step)
                self._change(entry.step, status=StepStatus.COMPENSATION_FAILED)
            self._mark_compensated(after=self._compensations.newest_step)
            if self._compensations:
                self._write()
        self._mark_compensated(after=None)
        return not failed

    def _mark_compensated(self, *, after: str | None) -> None:
        """Finished steps behind the named one (None: all) are taken back, those with nothing to undo among them."""
        names = [step.name for step in self._state.steps]
        for step in self._state.steps[names.index(after) + 1 if after else 0 :]:
            if step.status is StepStatus.COMPLETED:
                self._change(step.name, status=StepStatus.COMPENSATED)

    def _begin(self, name: str) -> None:
        self._step = name
        self._change(name, status=StepStatus.RUNNING, attempt=1, started_at=workflow.now())
        self._write(status=OperationStatus.RUNNING, challenge=None)

    def _fail(self, name: str, why: str) -> None:
        self._change(name, status=StepStatus.FAILED, completed_at=workflow.now(), last_error=why, next_attempt_at=None)

    def _of(self, name: str) -> Step:
        return next(step for step in self._state.steps if step.name == name)

    def _change(self, name: str, **changes: object) -> None:
        changed = self._of(name).model_copy(update=changes)
        steps = tuple(changed if step.name == name else step for step in self._state.steps)
        self._state = self._state.model_copy(update={"steps": steps})

    def _write(self, **changes: object) -> None:
        self._state = self._state.model_copy(update=changes | {"revision": self._state.revision + 1})
        workflow.upsert_memo({MEMO_STATE: self._state.to_memo()})
        publish_state(self._kind, self._state)


def _not_undone(failure: OperationFailure) -> OperationFailure:
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
        workflow.logger.error("An undo failed", exc_info=error)
        return False
    return True


async def _to_its_end(work: Awaitable[None]) -> None:
    """Await the work whatever cancellation comes meanwhile: an undo that is cut short leaves things half done."""
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise
    task.result()
