"""Authorization of transfers: read the current permissions of the user for whom a URL was signed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from starlette.requests import Request

from contracts.auth import PERMISSIONS
from contracts.callers import Caller
from contracts.transfer_grants import DownloadGrant, UploadGrant
from gateway.http.error_responses import request_id_of
from resolvers.clients.tenants import TenantsClient

FindCaller: TypeAlias = Callable[[Request, UploadGrant | DownloadGrant], Awaitable[Caller]]


async def find_caller(tenants: TenantsClient, request: Request, grant: UploadGrant | DownloadGrant) -> Caller:
    """Return the user of the grant with the permissions of the user's current role in the tenant.

    The permissions are empty if the user has left the tenant. Permissions at the time of the signature do not count.

    Raises:
        ServiceUnavailable, DeadlineExceeded: the role cannot be read.
    """
    caller = Caller(user_id=grant.user_id, tenant_id=grant.tenant_id, request_id=request_id_of(request))
    role = next((tenant.role for tenant in await tenants.get_tenants(caller, [grant.tenant_id])), None)
    return caller.model_copy(update={"permissions": tuple(sorted(PERMISSIONS[role])) if role else ()})
