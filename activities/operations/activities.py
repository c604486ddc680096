"""Activities of the workflow service for the repair of operations that ended without undoing their steps."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

from pydantic import ValidationError
from temporalio import activity
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client
from temporalio.converter import DataConverter
from temporalio.service import RPCError, RPCStatusCode

from contracts.compensation_repair import EndedOperation, RecordedCall, RecordedCalls

_RPC_TIMEOUT = timedelta(seconds=10)


class Operations:
    """Activities that the workflow RepairOperation calls on the task queue ``operations``."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @activity.defn
    async def get_recorded_calls(self, ended: EndedOperation) -> RecordedCalls:
        """Return the calls with an idempotency key from the history of the run, including calls without a result."""
        handle = self._client.get_workflow_handle(ended.operation_id, run_id=ended.run_id)
        return await recorded_calls_in(handle.fetch_history_events(), self._client.data_converter)

    @activity.defn
    async def is_superseded(self, ended: EndedOperation) -> bool:
        """Return whether a later run continues the operation, as after a reset; its steps must not be undone."""
        return not await is_current(self._client, ended)

    @activity.defn
    async def cancel_current_run(self, ended: EndedOperation) -> bool:
        """Cancel the current run, which then undoes all its steps; return whether the run has closed."""
        handle = self._client.get_workflow_handle(ended.operation_id)
        try:
            await handle.cancel(rpc_timeout=_RPC_TIMEOUT)
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:  # it has closed
                raise
        return (await handle.describe(rpc_timeout=_RPC_TIMEOUT)).close_time is not None


async def is_current(client: Client, ended: EndedOperation) -> bool:
    """Return whether the ended run is the newest run of the operation."""
    current = await client.get_workflow_handle(ended.operation_id).describe(rpc_timeout=_RPC_TIMEOUT)
    return current.run_id == ended.run_id


async def recorded_calls_in(events: AsyncIterator[HistoryEvent], converter: DataConverter) -> RecordedCalls:
    """Return the calls with an idempotency key from the events of a workflow history."""
    found: dict[tuple[str, str], RecordedCall] = {}
    async for event in events:
        call = event.activity_task_scheduled_event_attributes
        if not call.input.payloads:
            continue
        argument = (await converter.decode(call.input.payloads))[0]
        if isinstance(argument, dict):
            try:
                recorded = RecordedCall.model_validate(argument | {"activity": call.activity_type.name})
            except ValidationError:  # no idempotency key: the activity changes nothing
                continue
            found.setdefault((recorded.activity, recorded.key), recorded)
    return RecordedCalls(calls=tuple(found.values()))
