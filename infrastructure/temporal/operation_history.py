"""Build the current state of an operation from a description, a row of a list, or the history of its workflow."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.common.v1 import Memo, Payload, SearchAttributes
from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowExecution, WorkflowExecutionDescription, WorkflowExecutionStatus
from temporalio.common import SearchAttributeKey
from temporalio.converter import DataConverter

from contracts.errors import OperationErrorCode, OperationNotFound
from contracts.operations import (
    ATTRIBUTE_TENANTS,
    ATTRIBUTE_USER,
    MEMO_STATE,
    Operation,
    OperationFailure,
    OperationState,
    OperationStatus,
    Position,
    kind_of,
)
from infrastructure.temporal.pending_activity import with_pending_activity

USER = SearchAttributeKey.for_keyword(ATTRIBUTE_USER)
TENANTS = SearchAttributeKey.for_keyword_list(ATTRIBUTE_TENANTS)

ENDED_FROM_OUTSIDE = "It was ended from outside; what it had done is being undone."

_CLOSED_BY = {
    WorkflowExecutionStatus.COMPLETED: OperationStatus.COMPLETED,
    WorkflowExecutionStatus.FAILED: OperationStatus.FAILED,
    WorkflowExecutionStatus.TERMINATED: OperationStatus.FAILED,
    WorkflowExecutionStatus.CANCELED: OperationStatus.CANCELLED,
    WorkflowExecutionStatus.TIMED_OUT: OperationStatus.TIMED_OUT,
}
_CLOSING_EVENTS = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED: OperationStatus.COMPLETED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED: OperationStatus.FAILED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED: OperationStatus.FAILED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED: OperationStatus.CANCELLED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT: OperationStatus.TIMED_OUT,
}


async def to_operation(execution: WorkflowExecution, client: Client) -> Operation:
    """The operation that a description or a row of a list shows; OperationNotFound where it is none of ours."""
    kind = kind_of(execution.id)
    memo = execution.raw_info.memo
    if kind is None or MEMO_STATE not in memo.fields:
        raise OperationNotFound()
    status = None if execution.status is None else _CLOSED_BY.get(execution.status)
    operation = _join(
        execution.id,
        await _state_in(memo, client.data_converter),
        _SearchAttributes().updated(execution.raw_info.search_attributes),
        closed_as=status,
        closed_at=execution.close_time if status else None,
        run=run_of(execution),
        run_id=execution.run_id,
    )
    if not isinstance(execution, WorkflowExecutionDescription):
        return operation
    return await with_pending_activity(operation, execution.raw_description.pending_activities, client.data_converter)


def run_of(execution: WorkflowExecution) -> int:
    """Return the run's number in ``Position``. Rows of lists do not contain the first run's id, and count as it."""
    first = execution.raw_info.first_run_id
    return 0 if first in ("", execution.run_id) else execution.raw_info.start_time.ToMicroseconds()


class _SearchAttributes(NamedTuple):
    """The user and the tenants, from search attributes. The SDK's own reader takes many times as long."""

    user_id: str = ""
    tenant_ids: tuple[str, ...] = ()

    def updated(self, attributes: SearchAttributes) -> _SearchAttributes:
        place, fields = self, attributes.indexed_fields
        if USER.name in fields:
            place = place._replace(user_id=next(iter(_words(fields[USER.name])), ""))
        if TENANTS.name in fields:
            place = place._replace(tenant_ids=_words(fields[TENANTS.name]))
        return place


class HistoryReducer:
    """Folds the events of one operation, in order, into the operation as it stands after the last of them."""

    def __init__(self, operation_id: str, converter: DataConverter, run_of: Callable[[str], Awaitable[int]]) -> None:
        """``run_of`` returns a run's number in ``Position`` by its id; called only for runs that a reset began."""
        if kind_of(operation_id) is None:
            raise OperationNotFound()
        self._id = operation_id
        self._converter = converter
        self._state: OperationState | None = None
        self._place = _SearchAttributes()
        self._closed: tuple[OperationStatus, datetime] | None = None
        self._run = 0
        self._run_of = run_of
        self._reset_run_id: str | None = None
        self.run_id = ""
        """The run that the events are of."""
        self.next_run_id: str | None = None
        """The next run, if this one continued as new or is retried."""

    async def fold(self, events: Iterable[HistoryEvent]) -> list[Operation]:
        """Return each state in the events, oldest first. The final state is held back until the workflow has closed."""
        states: list[Operation] = []
        for event in events:
            if await self._apply(event) and self._state is not None:
                await self._find_run()
                operation = self._operation(self._state)
                if operation.is_closed or not self._state.status.is_closed:
                    states.append(operation)
        return states

    async def _apply(self, event: HistoryEvent) -> bool:
        """Apply the event; return whether it changes what clients see."""
        if closed_as := _CLOSING_EVENTS.get(event.event_type):
            if next_run_id := _next_run_id(event):
                self.next_run_id = next_run_id
                return False
            self._closed = (closed_as, _moment(event.event_time))
            return True
        match event.WhichOneof("attributes"):
            case "workflow_properties_modified_event_attributes":
                return await self._read(event.workflow_properties_modified_event_attributes.upserted_memo)
            case "workflow_execution_started_event_attributes":
                started = event.workflow_execution_started_event_attributes
                self.run_id = started.original_execution_run_id
                self._run = event.event_time.ToMicroseconds() if started.continued_execution_run_id else 0
                self._place = self._place.updated(started.search_attributes)
                return await self._read(started.memo)
            case "workflow_task_failed_event_attributes":
                failed = event.workflow_task_failed_event_attributes
                if failed.cause == WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW:
                    self.run_id = self._reset_run_id = failed.new_run_id
            case "upsert_workflow_search_attributes_event_attributes":
                upserted = event.upsert_workflow_search_attributes_event_attributes
                self._place = self._place.updated(upserted.search_attributes)
            case "workflow_execution_continued_as_new_event_attributes":
                self.next_run_id = event.workflow_execution_continued_as_new_event_attributes.new_execution_run_id
        return False

    async def _read(self, memo: Memo) -> bool:
        if MEMO_STATE not in memo.fields:
            return False
        self._state = await _state_in(memo, self._converter)
        return True

    async def _find_run(self) -> None:
        """Read when the reset began this run: the earlier events of its history were copied from another run."""
        if self._reset_run_id is not None:
            self._run = await self._run_of(self._reset_run_id)
            self._reset_run_id = None

    def _operation(self, state: OperationState) -> Operation:
        closed_as, closed_at = self._closed or (None, None)
        return _join(
            self._id,
            state,
            self._place,
            closed_as=closed_as,
            closed_at=closed_at,
            run=self._run,
            run_id=self.run_id,
        )


def _join(
    operation_id: str,
    state: OperationState,
    place: _SearchAttributes,
    *,
    closed_as: OperationStatus | None,
    closed_at: datetime | None,
    run: int,
    run_id: str,
) -> Operation:
    kind = kind_of(operation_id)
    assert kind is not None
    if closed_as is not None and not state.status.is_closed:
        state = _cut_short(state, closed_as)
    return Operation(
        id=operation_id,
        kind=kind,
        user_id=place.user_id,
        tenant_ids=place.tenant_ids,
        state=state,
        closed_at=closed_at,
        position=Position(run=run, revision=state.revision, closed=closed_as is not None),
        run_id=run_id,
    )


def _cut_short(state: OperationState, closed_as: OperationStatus) -> OperationState:
    """Return the state of a workflow that an administrator or its timeout ended before it wrote a final state."""
    timed_out = closed_as is OperationStatus.TIMED_OUT
    failure = OperationFailure(
        code=OperationErrorCode.TIMEOUT_EXCEEDED if timed_out else OperationErrorCode.DATA_INCONSISTENCY,
        message="It took too long and was ended." if timed_out else ENDED_FROM_OUTSIDE,
        step=next((step.name for step in state.steps if step.started_at and not step.completed_at), None),
    )
    return state.model_copy(update={"status": closed_as, "failure": failure, "challenge": None})


async def _state_in(memo: Memo, converter: DataConverter) -> OperationState:
    """Decode the state as JSON directly: half of the time of the converter goes into finding out the encoding."""
    payload = memo.fields[MEMO_STATE]
    if converter.payload_codec is not None:
        (payload,) = await converter.payload_codec.decode((payload,))
    return OperationState.model_validate_json(payload.data)


def _next_run_id(event: HistoryEvent) -> str:
    """Return the id of the run that follows a closed one by its retry policy; empty if there is none."""
    match event.WhichOneof("attributes"):
        case "workflow_execution_completed_event_attributes":
            return event.workflow_execution_completed_event_attributes.new_execution_run_id
        case "workflow_execution_failed_event_attributes":
            return event.workflow_execution_failed_event_attributes.new_execution_run_id
        case "workflow_execution_timed_out_event_attributes":
            return event.workflow_execution_timed_out_event_attributes.new_execution_run_id
    return ""


def _words(payload: Payload) -> tuple[str, ...]:
    """Return the keywords of a search attribute, which is plain JSON: one, several, or none if it was removed."""
    value = json.loads(payload.data or b"null")
    return (value,) if isinstance(value, str) else tuple(value or ())


def _moment(timestamp: Timestamp) -> datetime:
    return timestamp.ToDatetime(tzinfo=UTC)
