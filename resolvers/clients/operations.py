"""Client of the record of operations: writes, lookups, lists and statistics."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import TypeAdapter

from contracts.base import Ids
from contracts.callers import Caller
from contracts.operation_records import (
    OperationRecord,
    OperationRecords,
    RecordLookup,
    RecordPage,
    RecordPageRequest,
)
from contracts.operation_statistics import OperationStatistics, StatisticsRequest
from resolvers.clients.base import ServiceClient

_NONE = TypeAdapter(None)
_LOOKUP = TypeAdapter(RecordLookup)
_PAGE = TypeAdapter(RecordPage)
_STATISTICS = TypeAdapter(OperationStatistics)


class OperationsClient:
    """Calls the workflow service, which stores the record of operations."""

    def __init__(self, service: ServiceClient) -> None:
        self._service = service

    async def write(self, records: Sequence[OperationRecord]) -> None:
        """Store the records; a record that is stored with a newer version is not replaced."""
        await self._service.call("write", Caller(), OperationRecords(records=tuple(records)).model_dump_json(), _NONE)

    async def look_up(self, caller: Caller, ids: Sequence[str]) -> RecordLookup:
        """Return the records with these ids, of operations of all users; at most 500 ids."""
        return await self._service.call("look_up", caller, Ids(ids=tuple(ids)).model_dump_json(), _LOOKUP)

    async def list_operations(self, caller: Caller, request: RecordPageRequest) -> RecordPage:
        """Return one page of operations of the caller or of all members. Raises NotSignedIn, PermissionDenied."""
        return await self._service.call("list_operations", caller, request.model_dump_json(), _PAGE)

    async def statistics(self, caller: Caller, request: StatisticsRequest) -> OperationStatistics:
        """Return statistics of the operations of all members. Raises NotSignedIn, PermissionDenied."""
        return await self._service.call("statistics", caller, request.model_dump_json(), _STATISTICS)
