"""Build the state of an operation from Temporal's data: a description, a row of a list, or the workflow's history."""

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

USER_ATTRIBUTE = SearchAttributeKey.for_keyword(ATTRIBUTE_USER)
TENANTS_ATTRIBUTE = SearchAttributeKey.for_keyword_list(ATTRIBUTE_TENANTS)

TERMINATED_MESSAGE = "The operation was terminated; its completed steps are being undone."

_CLOSED_STATUSES = {
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
    """Return the operation of a workflow execution (a description or a row of a list).

    Raises:
        OperationNotFound: The workflow is not an operation.
    """
    kind = kind_of(execution.id)
    memo = execution.raw_info.memo
    if kind is None or MEMO_STATE not in memo.fields:
        raise OperationNotFound()
    status = None if execution.status is None else _CLOSED_STATUSES.get(execution.status)
    operation = _merge(
        execution.id,
        await _decode_state(memo, client.data_converter),
        _SearchAttributes().merged_with(execution.raw_info.search_attributes),
        closed_status=status,
        closed_at=execution.close_time if status else None,
        run=run_number(execution),
        run_id=execution.run_id,
    )
    if not isinstance(execution, WorkflowExecutionDescription):
        return operation
    return await with_pending_activity(operation, execution.raw_description.pending_activities, client.data_converter)


def run_number(execution: WorkflowExecution) -> int:
    """Return ``Position.run`` of the execution: 0 for the first run, otherwise the start in microseconds since 1970.

    Rows of lists do not contain the id of the first run, so they count as first runs.
    """
    first_run_id = execution.raw_info.first_run_id
    return 0 if first_run_id in ("", execution.run_id) else execution.raw_info.start_time.ToMicroseconds()


class _SearchAttributes(NamedTuple):
    """The user and the tenants of an operation, read from search attributes. The SDK's own decoder is much slower."""

    user_id: str = ""
    tenant_ids: tuple[str, ...] = ()

    def merged_with(self, attributes: SearchAttributes) -> _SearchAttributes:
        """Return these values, replaced by those attributes that are present."""
        merged, fields = self, attributes.indexed_fields
        if USER_ATTRIBUTE.name in fields:
            merged = merged._replace(user_id=next(iter(_keywords(fields[USER_ATTRIBUTE.name])), ""))
        if TENANTS_ATTRIBUTE.name in fields:
            merged = merged._replace(tenant_ids=_keywords(fields[TENANTS_ATTRIBUTE.name]))
        return merged


class HistoryReducer:
    """Computes the states of one operation from the events of its workflow's history, which it receives in order."""

    def __init__(
        self, operation_id: str, converter: DataConverter, find_run_number: Callable[[str], Awaitable[int]]
    ) -> None:
        """``find_run_number`` returns ``Position.run`` of a run id; it is called only for runs that a reset began."""
        if kind_of(operation_id) is None:
            raise OperationNotFound()
        self._id = operation_id
        self._converter = converter
        self._state: OperationState | None = None
        self._attributes = _SearchAttributes()
        self._closed_as: tuple[OperationStatus, datetime] | None = None
        self._run = 0
        self._find_run_number = find_run_number
        self._reset_run_id: str | None = None
        self.run_id = ""
        """The id of the run to which the events belong."""
        self.next_run_id: str | None = None
        """The id of the next run, if this run continued as new or is retried."""

    async def reduce(self, events: Iterable[HistoryEvent]) -> list[Operation]:
        """Apply the events and return each state that they contain, oldest first.

        A final state is returned only after the event that closes the workflow.
        """
        states: list[Operation] = []
        for event in events:
            if await self._apply(event) and self._state is not None:
                await self._update_run_number()
                operation = self._operation(self._state)
                if operation.is_closed or not self._state.status.is_closed:
                    states.append(operation)
        return states

    async def _apply(self, event: HistoryEvent) -> bool:
        """Apply the event; return whether it changes the state that clients see."""
        if closed_status := _CLOSING_EVENTS.get(event.event_type):
            if next_run_id := _next_run_id(event):
                self.next_run_id = next_run_id
                return False
            self._closed_as = (closed_status, _timestamp(event.event_time))
            return True
        match event.WhichOneof("attributes"):
            case "workflow_properties_modified_event_attributes":
                return await self._read_memo(event.workflow_properties_modified_event_attributes.upserted_memo)
            case "workflow_execution_started_event_attributes":
                started = event.workflow_execution_started_event_attributes
                self.run_id = started.original_execution_run_id
                self._run = event.event_time.ToMicroseconds() if started.continued_execution_run_id else 0
                self._attributes = self._attributes.merged_with(started.search_attributes)
                return await self._read_memo(started.memo)
            case "workflow_task_failed_event_attributes":
                failed = event.workflow_task_failed_event_attributes
                if failed.cause == WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW:
                    self.run_id = self._reset_run_id = failed.new_run_id
            case "upsert_workflow_search_attributes_event_attributes":
                upserted = event.upsert_workflow_search_attributes_event_attributes
                self._attributes = self._attributes.merged_with(upserted.search_attributes)
            case "workflow_execution_continued_as_new_event_attributes":
                self.next_run_id = event.workflow_execution_continued_as_new_event_attributes.new_execution_run_id
        return False

    async def _read_memo(self, memo: Memo) -> bool:
        if MEMO_STATE not in memo.fields:
            return False
        self._state = await _decode_state(memo, self._converter)
        return True

    async def _update_run_number(self) -> None:
        """Read the start of a run that a reset began: the earlier events of its history are copies of another run's."""
        if self._reset_run_id is not None:
            self._run = await self._find_run_number(self._reset_run_id)
            self._reset_run_id = None

    def _operation(self, state: OperationState) -> Operation:
        closed_status, closed_at = self._closed_as or (None, None)
        return _merge(
            self._id,
            state,
            self._attributes,
            closed_status=closed_status,
            closed_at=closed_at,
            run=self._run,
            run_id=self.run_id,
        )


def _merge(
    operation_id: str,
    state: OperationState,
    attributes: _SearchAttributes,
    *,
    closed_status: OperationStatus | None,
    closed_at: datetime | None,
    run: int,
    run_id: str,
) -> Operation:
    kind = kind_of(operation_id)
    assert kind is not None
    if closed_status is not None and not state.status.is_closed:
        state = _terminated_state(state, closed_status)
    return Operation(
        id=operation_id,
        kind=kind,
        user_id=attributes.user_id,
        tenant_ids=attributes.tenant_ids,
        state=state,
        closed_at=closed_at,
        position=Position(run=run, revision=state.revision, closed=closed_status is not None),
        run_id=run_id,
    )


def _terminated_state(state: OperationState, closed_status: OperationStatus) -> OperationState:
    """Return the final state of a workflow that was terminated or timed out before it wrote a final state itself."""
    timed_out = closed_status is OperationStatus.TIMED_OUT
    failure = OperationFailure(
        code=OperationErrorCode.TIMEOUT_EXCEEDED if timed_out else OperationErrorCode.DATA_INCONSISTENCY,
        message="The operation took too long and was ended." if timed_out else TERMINATED_MESSAGE,
        step=next((step.name for step in state.steps if step.started_at and not step.completed_at), None),
    )
    return state.model_copy(update={"status": closed_status, "failure": failure, "challenge": None})


async def _decode_state(memo: Memo, converter: DataConverter) -> OperationState:
    """Decode the state as JSON directly: the converter spends half of its time on the detection of the encoding."""
    payload = memo.fields[MEMO_STATE]
    if converter.payload_codec is not None:
        (payload,) = await converter.payload_codec.decode((payload,))
    return OperationState.model_validate_json(payload.data)


def _next_run_id(event: HistoryEvent) -> str:
    """Return the id of the run that the retry policy starts after a closed run; empty if there is none."""
    match event.WhichOneof("attributes"):
        case "workflow_execution_completed_event_attributes":
            return event.workflow_execution_completed_event_attributes.new_execution_run_id
        case "workflow_execution_failed_event_attributes":
            return event.workflow_execution_failed_event_attributes.new_execution_run_id
        case "workflow_execution_timed_out_event_attributes":
            return event.workflow_execution_timed_out_event_attributes.new_execution_run_id
    return ""


def _keywords(payload: Payload) -> tuple[str, ...]:
    """Return the values of a Keyword or KeywordList search attribute; empty if the attribute was removed."""
    value = json.loads(payload.data or b"null")
    return (value,) if isinstance(value, str) else tuple(value or ())


def _timestamp(timestamp: Timestamp) -> datetime:
    return timestamp.ToDatetime(tzinfo=UTC)
