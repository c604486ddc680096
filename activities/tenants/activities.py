"""Activities of the tenants service. The service documents what they raise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio import activity

from contracts.tenants import AccessRequest, Assignment, Membership, Tenant

if TYPE_CHECKING:
    from activities.tenants.service import TenantsService


class Tenants:
    """Activities that workflows call on the task queue ``tenants``."""

    def __init__(self, service: TenantsService) -> None:
        self._service = service

    @activity.defn
    async def check_access(self, request: AccessRequest) -> Membership:
        return await self._service.check_access(request)

    @activity.defn
    async def load_tenant_data(self, request: AccessRequest) -> Tenant:
        return await self._service.load_tenant_data(request)

    @activity.defn
    async def assign_user_to_tenant(self, assignment: Assignment) -> Membership:
        return await self._service.assign_user_to_tenant(assignment)

    @activity.defn
    async def undo_assign_user_to_tenant(self, key: str) -> None:
        await self._service.undo_assign_user_to_tenant(key)
