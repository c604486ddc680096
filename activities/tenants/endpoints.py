"""HTTP endpoints of the tenants service, for requests that need no workflow."""

from __future__ import annotations

from starlette.routing import Route

from activities.http import EmptyBody, endpoint, user_of
from activities.tenants.service import TenantsService
from contracts.base import Ids
from contracts.callers import Caller
from contracts.tenants import Tenant
from infrastructure.signing.service_tokens import ServiceTokenSigner


def routes(service: TenantsService, signer: ServiceTokenSigner) -> list[Route]:
    async def get_tenants(caller: Caller, requested: Ids) -> list[Tenant]:
        return await service.get_tenants(user_of(caller), requested.ids)

    async def list_tenants(caller: Caller, _: EmptyBody) -> list[Tenant]:
        return await service.list_tenants_of(user_of(caller))

    return [
        endpoint("/tenants/get_tenants", signer, Ids, get_tenants),
        endpoint("/tenants/list_tenants", signer, EmptyBody, list_tenants),
    ]
