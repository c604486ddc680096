"""Operations and statistics of a whole tenant, for its administrators."""

from __future__ import annotations

from contracts.auth import Session
from contracts.errors import PermissionDenied
from contracts.operation_records import RecordFilter, RecordPageRequest
from contracts.operation_statistics import OperationStatistics, StatisticsRequest
from contracts.tenants import Tenant
from resolvers.context import Context
from resolvers.inputs import OperationPageInput, StatisticsInput
from resolvers.operations.access import ADMINISTER_OPERATIONS
from resolvers.operations.records import OperationPage


async def list_tenant_operations(
    context: Context, tenant: Tenant, page: OperationPageInput, filter: RecordFilter
) -> OperationPage:
    """Return one page of the operations of all members.

    Raises:
        NotSignedIn: the client has no session.
        PermissionDenied: the tenant is not the viewer's current tenant, or the viewer lacks operations:administer.
    """
    viewer = await _administrator(context, tenant)
    request = RecordPageRequest(of_all_members=True, first=page.first, filter=filter, order=page.order_by)
    return await context.backend.records.page(context.caller(viewer), request, after=page.after)


async def load_operation_statistics(
    context: Context, tenant: Tenant, filter: RecordFilter, input: StatisticsInput
) -> OperationStatistics:
    """Return statistics of the operations of all members.

    Raises:
        NotSignedIn: the client has no session.
        PermissionDenied: the tenant is not the viewer's current tenant, or the viewer lacks operations:administer.
    """
    viewer = await _administrator(context, tenant)
    request = StatisticsRequest(filter=filter, interval=input.interval, time_zone=input.time_zone)
    return await context.backend.records.statistics(context.caller(viewer), request)


async def _administrator(context: Context, tenant: Tenant) -> Session:
    viewer = await context.require_permission(ADMINISTER_OPERATIONS)
    if tenant.id != viewer.tenant_id:
        raise PermissionDenied("Switch to this tenant first.")
    return viewer
