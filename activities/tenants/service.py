"""The tenants service: tenants, memberships and roles. A tenant is visible to its members only."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from pydantic import JsonValue

from activities.idempotency import run_once, undo_once
from activities.tenants import models
from activities.transactions import atomic
from contracts.auth import PERMISSIONS, Role, access_key, grantable_roles
from contracts.base import is_id
from contracts.errors import AlreadyMember, LastOwner, PermissionDenied, RoleTooHigh, TenantAccessDenied
from contracts.tenants import (
    AccessRequest,
    Assignment,
    FeatureFlag,
    MemberRemoval,
    Membership,
    RoleChange,
    Tenant,
)
from infrastructure.change_notifications import ChangeNotifier

MAX_TENANTS = 500
"""Maximum number of tenants in one list."""


class TenantsService:
    """Manages tenants. For a user who is not a member, a tenant that exists is the same as one that does not exist.

    After each commit that changes a role or a membership, ``change_notifier`` sends a change notification under
    ``access_key``. If a notification is lost, the gateways notice the change when they read sessions at an interval.
    """

    def __init__(self, change_notifier: ChangeNotifier) -> None:
        self._change_notifier = change_notifier

    async def roles(self, members: Collection[tuple[str, str]]) -> dict[tuple[str, str], Role]:
        """Return the current role of each pair of user id and tenant id; pairs without a membership are left out."""
        users, tenants = {user_id for user_id, _ in members}, {tenant_id for _, tenant_id in members}
        rows = await models.Membership.filter(user_id__in=list(users), tenant_id__in=list(tenants))
        found = {(row.user_id, row.tenant_id): row.role for row in rows}
        return {member: found[member] for member in members if member in found}

    async def check_access(self, request: AccessRequest) -> Membership:
        """Return the user's membership in the tenant.

        Raises:
            TenantAccessDenied: the user is not a member, or the tenant does not exist.
        """
        are_ids = is_id(request.user_id, "usr") and is_id(request.tenant_id, "ten")
        row = are_ids and await models.Membership.get_or_none(user_id=request.user_id, tenant_id=request.tenant_id)
        if not row:
            raise TenantAccessDenied()
        return _membership(row)

    async def load_tenant_data(self, request: AccessRequest) -> Tenant:
        """Return the tenant with its feature flags, as its member sees it.

        Raises:
            TenantAccessDenied: the user is not a member, or the tenant does not exist.
        """
        tenants = await self.get_tenants(request.user_id, [request.tenant_id])
        if not tenants:
            raise TenantAccessDenied()
        return tenants[0]

    async def get_tenants(self, user_id: str, ids: Iterable[str]) -> list[Tenant]:
        """Return the tenants of which the user is a member, in the requested order."""
        requested = [each for each in dict.fromkeys(ids) if is_id(each, "ten")]
        found = await _tenants(await models.Membership.filter(user_id=user_id, tenant_id__in=requested))
        return [found[each] for each in requested if each in found]

    async def list_tenants_of(self, user_id: str) -> list[Tenant]:
        """Return the tenants of which the user is a member, sorted by name, at most ``MAX_TENANTS``."""
        found = await _tenants(await models.Membership.filter(user_id=user_id).limit(MAX_TENANTS))
        return sorted(found.values(), key=lambda tenant: (tenant.name, tenant.id))

    async def assign_user_to_tenant(self, assignment: Assignment) -> Membership:
        """Make the user a member of the tenant.

        Raises:
            TenantAccessDenied: ``assigned_by`` is not a member.
            PermissionDenied: ``assigned_by`` may not add members.
            RoleTooHigh: the role is above that of ``assigned_by``.
            AlreadyMember: the user is a member already.
        """

        async def assign() -> JsonValue:
            await self._check_assignment(assignment)
            if await models.Membership.exists(user_id=assignment.user_id, tenant_id=assignment.tenant_id):
                raise AlreadyMember()
            row = await models.Membership.create(
                user_id=assignment.user_id, tenant_id=assignment.tenant_id, role=assignment.role
            )
            return _membership(row).model_dump(mode="json")

        made = Membership.model_validate(await run_once(models.TenantsIdempotencyRecord, assignment.key, assign))
        await self._notify(made)
        return made

    async def change_role(self, change: RoleChange) -> Membership:
        """Change the role of a member; takes effect immediately, also on open connections.

        Raises:
            TenantAccessDenied: the user or ``changed_by`` is not a member.
            PermissionDenied: ``changed_by`` may not change roles.
            RoleTooHigh: the new role or the current role is above that of ``changed_by``.
            LastOwner: the tenant has no other owner.
        """

        async def apply() -> Membership:
            row = await self._lock_membership(change.user_id, change.tenant_id, change.changed_by, change.role)
            if row.role is Role.OWNER and change.role is not Role.OWNER:
                await _require_another_owner(row)
            await models.Membership.filter(id=row.id).update(role=change.role)
            return Membership(user_id=row.user_id, tenant_id=row.tenant_id, role=change.role)

        changed = await atomic(apply)
        await self._notify(changed)
        return changed

    async def remove_member(self, removal: MemberRemoval) -> None:
        """Remove a member, whose sessions in the tenant become invalid immediately. Raises as ``change_role`` does."""

        async def apply_removal() -> Membership:
            row = await self._lock_membership(removal.user_id, removal.tenant_id, removal.removed_by)
            if row.role is Role.OWNER:
                await _require_another_owner(row)
            await models.Membership.filter(id=row.id).delete()
            return _membership(row)

        await self._notify(await atomic(apply_removal))

    async def _lock_membership(
        self, user_id: str, tenant_id: str, by: str, role: Role | None = None
    ) -> models.Membership:
        """Return the membership after checking that ``by`` may change it; lock all memberships of the tenant."""
        tenant = tenant_id if is_id(tenant_id, "ten") else ""
        rows = await models.Membership.filter(tenant_id=tenant).order_by("id").select_for_update()
        members = {row.user_id: row for row in rows}
        if user_id not in members or by not in members:
            raise TenantAccessDenied()
        row, granted = members[user_id], grantable_roles(members[by].role)
        is_own_leave = user_id == by and role is None
        if not is_own_leave and "users:onboard" not in PERMISSIONS[members[by].role]:
            raise PermissionDenied()
        if row.role not in granted or (role is not None and role not in granted):
            raise RoleTooHigh()
        return row

    async def _notify(self, membership: Membership) -> None:
        await self._change_notifier.notify(access_key(membership.user_id, membership.tenant_id))

    async def _check_assignment(self, assignment: Assignment) -> None:
        assigner = await self.check_access(
            AccessRequest(user_id=assignment.assigned_by, tenant_id=assignment.tenant_id)
        )
        if "users:onboard" not in PERMISSIONS[assigner.role]:
            raise PermissionDenied()
        if assignment.role not in grantable_roles(assigner.role):
            raise RoleTooHigh()

    async def undo_assign_user_to_tenant(self, key: str) -> None:
        """Delete the membership that the step of this key created."""

        async def remove(answer: JsonValue) -> None:
            made = Membership.model_validate(answer)
            await models.Membership.filter(user_id=made.user_id, tenant_id=made.tenant_id).delete()

        answer = await undo_once(models.TenantsIdempotencyRecord, key, remove)
        if answer is not None:
            await self._notify(Membership.model_validate(answer))


async def _require_another_owner(row: models.Membership) -> None:
    """Raise LastOwner if the tenant has no other owner."""
    if not await models.Membership.filter(tenant_id=row.tenant_id, role=Role.OWNER).exclude(id=row.id).exists():
        raise LastOwner()


def _membership(row: models.Membership) -> Membership:
    return Membership(user_id=row.user_id, tenant_id=row.tenant_id, role=row.role)


async def _tenants(memberships: list[models.Membership]) -> dict[str, Tenant]:
    """Return the tenants of one user's memberships by id."""
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
