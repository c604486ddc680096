"""The record of operations for gateway tests: in memory, or the real service on its database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from temporalio.client import Client

from contracts.base import Contract, Ids
from contracts.callers import Caller
from contracts.operation_records import (
    MAX_COUNT,
    OperationOrder,
    OperationRecord,
    OperationRecords,
    RecordLookup,
    RecordPage,
    RecordPageRequest,
    RecordPosition,
)
from infrastructure.temporal.operation_history import to_operation

if TYPE_CHECKING:
    from activities.operations.service import OperationsService
    from tests.gateway.fakes import Handler


class MemoryRecord:
    """An in-memory record of operations. Lists are ordered by start time; search is not supported."""

    def __init__(self) -> None:
        self._records: dict[str, OperationRecord] = {}

    def add(self, record: OperationRecord) -> None:
        """Add the record, merged with an earlier record of the same operation."""
        id_ = record.operation.id
        self._records[id_] = record.merged_with(self._records.get(id_))

    async def add_from(self, client: Client, operation_id: str) -> None:
        """Read the operation from Temporal and add its record, as a worker or the repair does."""
        description = await client.get_workflow_handle(operation_id).describe()
        self.add(OperationRecord(operation=await to_operation(description, client)))

    def write(self, _caller: Caller, body: dict[str, Any]) -> None:
        """Handle the endpoint that writes records."""
        for record in OperationRecords.model_validate(body).records:
            self.add(record)

    def look_up(self, _caller: Caller, body: dict[str, Any]) -> RecordLookup:
        """Handle the endpoint that reads records by id."""
        ids = Ids.model_validate(body).ids
        return RecordLookup(records=tuple(self._records[each] for each in ids if each in self._records))

    def list_operations(self, caller: Caller, body: dict[str, Any]) -> RecordPage:
        """Handle the endpoint that lists operations by pages."""
        request = RecordPageRequest.model_validate(body)
        is_ascending = request.order is OperationOrder.STARTED_AT_ASC
        matching = sorted(
            (each for each in self._records.values() if _matches(each, caller, request)),
            key=_position,
            reverse=not is_ascending,
        )
        after = None if request.after is None else (request.after.key, request.after.id)
        following = [
            each
            for each in matching
            if after is None or (_position(each) > after if is_ascending else _position(each) < after)
        ]
        page = following[: request.first]
        return RecordPage(
            records=tuple(page),
            positions=tuple(RecordPosition(key=key, id=id_) for key, id_ in map(_position, page)),
            has_next=len(following) > request.first,
            total=min(len(matching), MAX_COUNT) if request.with_total else None,
        )

    def handlers(self) -> dict[str, Handler]:
        """Return the handlers for ``FakeServices``."""
        return {
            "operations/write": self.write,
            "operations/look_up": self.look_up,
            "operations/list_operations": self.list_operations,
        }


def handlers_of(service: OperationsService) -> dict[str, Handler]:
    """Return handlers for ``FakeServices`` that call the real service, whose database must be open."""

    async def write(_caller: Caller, body: dict[str, Any]) -> None:
        await service.write(OperationRecords.model_validate(body).records)

    async def look_up(_caller: Caller, body: dict[str, Any]) -> Contract:
        return await service.look_up(Ids.model_validate(body).ids)

    async def list_operations(caller: Caller, body: dict[str, Any]) -> Contract:
        return await service.list_operations(caller, RecordPageRequest.model_validate(body))

    return {
        "operations/write": write,
        "operations/look_up": look_up,
        "operations/list_operations": list_operations,
    }


def _matches(record: OperationRecord, caller: Caller, request: RecordPageRequest) -> bool:
    operation = record.operation
    is_theirs = operation.user_id == caller.user_id or request.of_all_members
    return is_theirs and caller.tenant_id in operation.tenant_ids and request.filter.matches(operation)


def _position(record: OperationRecord) -> tuple[int, str]:
    return round(record.operation.started_at.timestamp() * 1_000_000), record.operation.id
