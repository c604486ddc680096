"""What administrators see of their tenant beyond what every member sees."""

from __future__ import annotations

from contracts.auth import Session
from contracts.errors import PermissionDenied
from contracts.operation_records import RecordFilter, RecordPageRequest
from contracts.operation_statistics import OperationStatistics, StatisticsRequest
from contracts.tenants import Tenant
from resolvers.context import Context
from resolvers.inputs import OperationPageInput, StatisticsInput
from resolvers.operations.access import ADMINISTER
from resolvers.operations.records import OperationPage


async def operations(context: Context, tenant: Tenant, page: OperationPageInput, filter: RecordFilter) -> OperationPage:
    """The operations of all members; PermissionDenied in another tenant than the current, or without the permission."""
    viewer = await _administrator(context, tenant)
    request = RecordPageRequest(of_all_members=True, first=page.first, filter=filter, order=page.order_by)
    return await context.backend.records.page(context.caller(viewer), request, after=page.after)


async def operation_statistics(
    context: Context, tenant: Tenant, filter: RecordFilter, input: StatisticsInput
) -> OperationStatistics:
    """Statistics of the operations of all members; PermissionDenied as above."""
    viewer = await _administrator(context, tenant)
    request = StatisticsRequest(filter=filter, interval=input.interval, time_zone=input.time_zone)
    return await context.backend.records.statistics(context.caller(viewer), request)


async def _administrator(context: Context, tenant: Tenant) -> Session:
    viewer = await context.permitted(ADMINISTER)
    if tenant.id != viewer.tenant_id:
        raise PermissionDenied("Switch to this tenant first.")
    return viewer
