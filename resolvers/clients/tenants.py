"""Client of the tenants service: the tenants of which a user is a member."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import TypeAdapter

from contracts.base import Ids
from contracts.callers import Caller
from contracts.tenants import Tenant
from resolvers.clients.base import ServiceClient

_TENANTS = TypeAdapter(tuple[Tenant, ...])


class TenantsClient:
    """Calls the tenants service."""

    def __init__(self, service: ServiceClient) -> None:
        self._service = service

    async def get_tenants(self, caller: Caller, ids: Sequence[str]) -> tuple[Tenant, ...]:
        """Return the tenants with these ids of which the caller is a member; at most 500 ids."""
        return await self._service.call("get_tenants", caller, Ids(ids=tuple(ids)).model_dump_json(), _TENANTS)

    async def list_tenants(self, caller: Caller) -> tuple[Tenant, ...]:
        """Return all tenants of which the caller is a member, sorted by name."""
        return await self._service.call("list_tenants", caller, b"{}", _TENANTS)
