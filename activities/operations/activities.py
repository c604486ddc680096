"""What a repair asks of operations: which calls one of them made before it was ended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

from pydantic import ValidationError
from temporalio import activity
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client
from temporalio.converter import DataConverter
from temporalio.service import RPCError, RPCStatusCode

from contracts.compensation_repair import Effects, EndedOperation, RecordedCall

_RPC_TIMEOUT = timedelta(seconds=10)


class Operations:
    def __init__(self, client: Client) -> None:
        self._client = client

    @activity.defn
    async def effects_of(self, ended: EndedOperation) -> Effects:
        """By its history: what it had called, whether or not the answer came."""
        handle = self._client.get_workflow_handle(ended.operation_id, run_id=ended.run_id)
        return await effects_in(handle.fetch_history_events(), self._client.data_converter)

    @activity.defn
    async def is_superseded(self, ended: EndedOperation) -> bool:
        """Whether a later run continues the operation, as after a reset: its work must not be undone."""
        return not await is_current(self._client, ended)

    @activity.defn
    async def cancel_current_run(self, ended: EndedOperation) -> bool:
        """Cancel the current run, which then undoes the whole operation; return whether it has closed."""
        handle = self._client.get_workflow_handle(ended.operation_id)
        try:
            await handle.cancel(rpc_timeout=_RPC_TIMEOUT)
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:  # it has closed
                raise
        return (await handle.describe(rpc_timeout=_RPC_TIMEOUT)).close_time is not None


async def is_current(client: Client, ended: EndedOperation) -> bool:
    """Whether no run has followed the one that ended."""
    current = await client.get_workflow_handle(ended.operation_id).describe(rpc_timeout=_RPC_TIMEOUT)
    return current.run_id == ended.run_id


async def effects_in(events: AsyncIterator[HistoryEvent], converter: DataConverter) -> Effects:
    found: dict[tuple[str, str], RecordedCall] = {}
    async for event in events:
        call = event.activity_task_scheduled_event_attributes
        if not call.input.payloads:
            continue
        given = (await converter.decode(call.input.payloads))[0]
        if isinstance(given, dict):
            try:
                effect = RecordedCall.model_validate(given | {"activity": call.activity_type.name})
            except ValidationError:  # without a key: it changes nothing
                continue
            found.setdefault((effect.activity, effect.key), effect)
    return Effects(effects=tuple(found.values()))
