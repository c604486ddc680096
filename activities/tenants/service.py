"""The rules of tenants: who belongs to which, in what role, and what a member sees of it."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import JsonValue

from activities.effects import once, undo
from activities.tenants import models
from contracts.auth import PERMISSIONS, Role, roles_granted_by
from contracts.base import is_id
from contracts.errors import Conflict, PermissionDenied, TenantAccessDenied
from contracts.tenants import AccessRequest, Assignment, FeatureFlag, Membership, Tenant

MOST_TENANTS = 500
"""How many tenants one listing shows."""


class TenantsService:
    """A tenant is there for its members only: to anybody else, a foreign one and none at all are the same."""

    async def check_access(self, request: AccessRequest) -> Membership:
        """Raises TenantAccessDenied."""
        known = is_id(request.user_id, "usr") and is_id(request.tenant_id, "ten")
        row = known and await models.Membership.get_or_none(user_id=request.user_id, tenant_id=request.tenant_id)
        if not row:
            raise TenantAccessDenied()
        return _membership(row)

    async def load_tenant_data(self, request: AccessRequest) -> Tenant:
        """Raises TenantAccessDenied."""
        tenants = await self.get_tenants(request.user_id, [request.tenant_id])
        if not tenants:
            raise TenantAccessDenied()
        return tenants[0]

    async def get_tenants(self, user_id: str, ids: Iterable[str]) -> list[Tenant]:
        """Those of them that the user is a member of, in the order asked for."""
        wanted = [each for each in dict.fromkeys(ids) if is_id(each, "ten")]
        found = await _tenants(await models.Membership.filter(user_id=user_id, tenant_id__in=wanted))
        return [found[each] for each in wanted if each in found]

    async def list_tenants_of(self, user_id: str) -> list[Tenant]:
        """All that the user is a member of, by name."""
        found = await _tenants(await models.Membership.filter(user_id=user_id).limit(MOST_TENANTS))
        return sorted(found.values(), key=lambda tenant: (tenant.name, tenant.id))

    async def assign_user_to_tenant(self, assignment: Assignment) -> Membership:
        """Raises TenantAccessDenied, PermissionDenied, and Conflict for a member."""

        async def assign() -> JsonValue:
            await self._may_assign(assignment)
            if await models.Membership.exists(user_id=assignment.user_id, tenant_id=assignment.tenant_id):
                raise Conflict("This user is a member already.")
            row = await models.Membership.create(
                user_id=assignment.user_id, tenant_id=assignment.tenant_id, role=assignment.role
            )
            return _membership(row).model_dump(mode="json")

        return Membership.model_validate(await once(models.TenantsEffect, assignment.key, assign))

    async def _may_assign(self, assignment: Assignment) -> None:
        giver = await self.check_access(AccessRequest(user_id=assignment.assigned_by, tenant_id=assignment.tenant_id))
        if "users:onboard" not in PERMISSIONS[giver.role] or assignment.role not in roles_granted_by(giver.role):
            raise PermissionDenied()

    async def remove_user_from_tenant(self, key: str) -> None:
        async def remove(answer: JsonValue) -> None:
            made = Membership.model_validate(answer)
            await models.Membership.filter(user_id=made.user_id, tenant_id=made.tenant_id).delete()

        await undo(models.TenantsEffect, key, remove)


def _membership(row: models.Membership) -> Membership:
    return Membership(user_id=row.user_id, tenant_id=row.tenant_id, role=row.role)


async def _tenants(memberships: list[models.Membership]) -> dict[str, Tenant]:
    """The tenants of one user's memberships, by id."""
    roles = {membership.tenant_id: membership.role for membership in memberships}
    flags: dict[str, list[FeatureFlag]] = {tenant_id: [] for tenant_id in roles}
    for flag in await models.FeatureFlag.filter(tenant_id__in=list(roles)).order_by("name"):
        flags[flag.tenant_id].append(FeatureFlag(name=flag.name, enabled=flag.enabled))
    rows = await models.Tenant.filter(id__in=list(roles))
    return {row.id: _tenant(row, flags[row.id], roles[row.id]) for row in rows}


def _tenant(row: models.Tenant, flags: list[FeatureFlag], role: Role) -> Tenant:
    return Tenant(
        id=row.id,
        name=row.name,
        slug=row.slug,
        subscription_tier=row.subscription_tier,
        feature_flags=tuple(flags),
        role=role,
    )
