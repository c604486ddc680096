"""The tenants service as the edge calls it: the tenants that a user belongs to."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import TypeAdapter

from contracts.base import Ids
from contracts.service_tokens import Caller
from contracts.tenants import Tenant
from resolvers.clients.base import ServiceClient

_TENANTS = TypeAdapter(tuple[Tenant, ...])


class TenantsClient:
    def __init__(self, calls: ServiceClient) -> None:
        self._calls = calls

    async def tenants(self, caller: Caller, ids: Sequence[str]) -> tuple[Tenant, ...]:
        """Those of them that the caller is a member of; at most 500 ids."""
        return await self._calls.call("get_tenants", caller, Ids(ids=tuple(ids)).model_dump_json(), _TENANTS)

    async def memberships(self, caller: Caller) -> tuple[Tenant, ...]:
        """All that the caller is a member of, by name."""
        return await self._calls.call("list_tenants", caller, b"{}", _TENANTS)
