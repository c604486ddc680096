"""The record of operations as the gateway calls it: writes of starts, lists and lookups."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import TypeAdapter

from contracts.base import Ids
from contracts.operation_records import (
    OperationRecord,
    OperationRecords,
    RecordLookup,
    RecordPage,
    RecordPageRequest,
)
from contracts.operation_statistics import OperationStatistics, StatisticsRequest
from contracts.service_tokens import Caller
from resolvers.clients.base import ServiceClient

_NOTHING = TypeAdapter(None)
_LOOKUP = TypeAdapter(RecordLookup)
_PAGE = TypeAdapter(RecordPage)
_STATISTICS = TypeAdapter(OperationStatistics)


class OperationsClient:
    def __init__(self, calls: ServiceClient) -> None:
        self._calls = calls

    async def write(self, records: Sequence[OperationRecord]) -> None:
        """Store the records; a newer version that is stored already stays."""
        await self._calls.call("write", Caller(), OperationRecords(records=tuple(records)).model_dump_json(), _NOTHING)

    async def look_up(self, caller: Caller, ids: Sequence[str]) -> RecordLookup:
        """Return the records with these ids, at most 500, of operations of all users."""
        return await self._calls.call("look_up", caller, Ids(ids=tuple(ids)).model_dump_json(), _LOOKUP)

    async def list_operations(self, caller: Caller, request: RecordPageRequest) -> RecordPage:
        """One page of the caller's operations, or of all members' operations. Raises NotSignedIn, PermissionDenied."""
        return await self._calls.call("list_operations", caller, request.model_dump_json(), _PAGE)

    async def statistics(self, caller: Caller, request: StatisticsRequest) -> OperationStatistics:
        """Statistics of the operations of all members. Raises NotSignedIn, PermissionDenied."""
        return await self._calls.call("statistics", caller, request.model_dump_json(), _STATISTICS)
