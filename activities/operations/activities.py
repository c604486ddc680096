"""What a repair asks of operations: which calls one of them made before it was ended."""

from __future__ import annotations

from collections.abc import AsyncIterator

from pydantic import ValidationError
from temporalio import activity
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client
from temporalio.converter import DataConverter

from contracts.repairs import Effect, Effects, EndedOperation


class Operations:
    def __init__(self, client: Client) -> None:
        self._client = client

    @activity.defn
    async def effects_of(self, ended: EndedOperation) -> Effects:
        """By its history: what it had called, whether or not the answer came."""
        handle = self._client.get_workflow_handle(ended.operation_id, run_id=ended.run_id)
        return await effects_in(handle.fetch_history_events(), self._client.data_converter)


async def effects_in(events: AsyncIterator[HistoryEvent], converter: DataConverter) -> Effects:
    found: dict[tuple[str, str], Effect] = {}
    async for event in events:
        call = event.activity_task_scheduled_event_attributes
        if not call.input.payloads:
            continue
        given = (await converter.decode(call.input.payloads))[0]
        if isinstance(given, dict):
            try:
                effect = Effect.model_validate(given | {"activity": call.activity_type.name})
            except ValidationError:  # without a key: it changes nothing
                continue
            found.setdefault((effect.activity, effect.key), effect)
    return Effects(effects=tuple(found.values()))
