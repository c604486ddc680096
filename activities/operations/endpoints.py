"""HTTP endpoints of the record of operations, for the gateway."""

from __future__ import annotations

from starlette.routing import Route

from activities.http import endpoint
from activities.operations.service import OperationsService
from contracts.base import Ids
from contracts.callers import Caller
from contracts.operation_records import MAX_BATCH, OperationRecords, RecordLookup, RecordPage, RecordPageRequest
from contracts.operation_statistics import OperationStatistics, StatisticsRequest
from infrastructure.signing.service_tokens import ServiceTokenSigner

_MAX_BATCH_BYTES = MAX_BATCH * 8 * 1024
"""A state is at most 2 KiB in Temporal's memo; JSON with escapes and nulls, and the subject, make it longer."""


def routes(service: OperationsService, signer: ServiceTokenSigner) -> list[Route]:
    async def write(_caller: Caller, batch: OperationRecords) -> None:
        await service.write(batch.records)

    async def look_up(_caller: Caller, requested: Ids) -> RecordLookup:
        return await service.look_up(requested.ids)

    async def list_operations(caller: Caller, request: RecordPageRequest) -> RecordPage:
        return await service.list_operations(caller, request)

    async def statistics(caller: Caller, request: StatisticsRequest) -> OperationStatistics:
        return await service.statistics(caller, request)

    return [
        endpoint("/operations/write", signer, OperationRecords, write, max_body_bytes=_MAX_BATCH_BYTES),
        endpoint("/operations/look_up", signer, Ids, look_up),
        endpoint("/operations/list_operations", signer, RecordPageRequest, list_operations),
        endpoint("/operations/statistics", signer, StatisticsRequest, statistics),
    ]
