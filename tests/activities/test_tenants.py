"""Tenants: there for their members only."""

import asyncio
from collections.abc import Awaitable

import pytest

from activities.tenants import models
from activities.tenants.service import TenantsService
from contracts.auth import Role, access_key
from contracts.base import new_id
from contracts.errors import Conflict, LastOwner, PermissionDenied, RoleTooHigh, StepAlreadyUndone, TenantAccessDenied
from contracts.tenants import (
    AccessRequest,
    Assignment,
    FeatureFlag,
    MemberRemoval,
    Membership,
    RoleChange,
    SubscriptionTier,
    Tenant,
)
from infrastructure.change_notifications import LocalNotifier
from tests.activities.conftest import join
from tests.activities.locks import held_row

ADA, GRACE = new_id("usr"), new_id("usr")


@pytest.fixture
async def acme(any_database: None) -> str:
    """Ada administers it; Grace is a stranger."""
    tenant_id = await add_tenant("Acme", SubscriptionTier.PROFESSIONAL)
    await models.FeatureFlag.create(tenant_id=tenant_id, name="dashboards", enabled=True)
    await models.FeatureFlag.create(tenant_id=tenant_id, name="audit_log", enabled=False)
    await models.Membership.create(user_id=ADA, tenant_id=tenant_id, role=Role.ADMIN)
    return tenant_id


async def add_tenant(name: str, tier: SubscriptionTier = SubscriptionTier.FREE) -> str:
    row = await models.Tenant.create(id=new_id("ten"), name=name, slug=name.lower(), subscription_tier=tier)
    return row.id


def assignment_of(
    user_id: str, tenant_id: str, role: Role = Role.MEMBER, *, by: str = ADA, key: str | None = None
) -> Assignment:
    return Assignment(key=key or new_id("key"), user_id=user_id, tenant_id=tenant_id, role=role, assigned_by=by)


async def test_member_has_access_with_own_role(acme: str) -> None:
    membership = await TenantsService(LocalNotifier()).check_access(AccessRequest(user_id=ADA, tenant_id=acme))

    assert membership == Membership(user_id=ADA, tenant_id=acme, role=Role.ADMIN)


@pytest.mark.parametrize("absent", ["ten_" + "f" * 32, "", "\0", "acme", "x" * 5000])
async def test_foreign_and_unknown_tenants_raise_the_same_error(acme: str, absent: str) -> None:
    service, refusals = TenantsService(LocalNotifier()), []

    for tenant_id in (acme, absent):
        for ask in (service.check_access, service.load_tenant_data):
            with pytest.raises(TenantAccessDenied) as refused:
                await ask(AccessRequest(user_id=GRACE, tenant_id=tenant_id))
            refusals.append(refused.value.message)
        assert await service.get_tenants(GRACE, [tenant_id]) == []

    assert len(set(refusals)) == 1


async def test_member_sees_the_tenant_with_flags_and_role(acme: str) -> None:
    tenant = await TenantsService(LocalNotifier()).load_tenant_data(AccessRequest(user_id=ADA, tenant_id=acme))

    assert tenant == Tenant(
        id=acme,
        name="Acme",
        slug="acme",
        subscription_tier=SubscriptionTier.PROFESSIONAL,
        feature_flags=(FeatureFlag(name="audit_log", enabled=False), FeatureFlag(name="dashboards", enabled=True)),
        role=Role.ADMIN,
    )


async def test_tenants_are_in_requested_order_and_listed_by_name(acme: str) -> None:
    service, globex, foreign = TenantsService(LocalNotifier()), await add_tenant("Globex"), await add_tenant("Initech")
    await models.Membership.create(user_id=ADA, tenant_id=globex, role=Role.GUEST)
    await models.Membership.create(user_id=GRACE, tenant_id=foreign, role=Role.OWNER)

    asked = await service.get_tenants(ADA, [globex, foreign, acme, globex])

    assert [(tenant.id, tenant.role) for tenant in asked] == [(globex, Role.GUEST), (acme, Role.ADMIN)]
    assert [tenant.name for tenant in await service.list_tenants_of(ADA)] == ["Acme", "Globex"]
    assert await service.list_tenants_of(new_id("usr")) == []


async def test_assignment_is_repeatable_and_can_be_undone(acme: str) -> None:
    service = TenantsService(LocalNotifier())
    assignment = assignment_of(GRACE, acme, key="onboarding-1:assign_to_tenant")

    first = await service.assign_user_to_tenant(assignment)
    assert await service.assign_user_to_tenant(assignment) == first
    assert await service.check_access(AccessRequest(user_id=GRACE, tenant_id=acme)) == first

    for _ in range(2):
        await service.undo_assign_user_to_tenant(assignment.key)
    with pytest.raises(TenantAccessDenied):
        await service.check_access(AccessRequest(user_id=GRACE, tenant_id=acme))
    with pytest.raises(StepAlreadyUndone):
        await service.assign_user_to_tenant(assignment)


async def test_undo_without_assignment_changes_nothing(acme: str) -> None:
    await TenantsService(LocalNotifier()).undo_assign_user_to_tenant("onboarding-1:assign_to_tenant")

    assert await models.Membership.all().count() == 1


async def test_members_and_unknown_tenants_are_not_assigned(acme: str) -> None:
    service = TenantsService(LocalNotifier())

    with pytest.raises(Conflict):
        await service.assign_user_to_tenant(assignment_of(ADA, acme))
    with pytest.raises(TenantAccessDenied):
        await service.assign_user_to_tenant(assignment_of(GRACE, new_id("ten")))
    assert (await service.check_access(AccessRequest(user_id=ADA, tenant_id=acme))).role is Role.ADMIN


@pytest.mark.parametrize(
    ("giver", "given"),
    [
        (Role.OWNER, list(Role)),
        (Role.ADMIN, [Role.ADMIN, Role.MEMBER, Role.GUEST]),
        (Role.MEMBER, []),
        (Role.GUEST, []),
    ],
)
async def test_assigning_a_role_requires_permission_and_rank(acme: str, giver: Role, given: list[Role]) -> None:
    service, linus = TenantsService(LocalNotifier()), new_id("usr")
    await models.Membership.create(user_id=linus, tenant_id=acme, role=giver)
    let: list[Role] = []

    for role in Role:
        try:
            await service.assign_user_to_tenant(assignment_of(new_id("usr"), acme, role, by=linus))
            let.append(role)
        except PermissionDenied:
            pass

    assert let == given
    assert await models.Membership.all().count() == 2 + len(given)


async def test_assigner_must_be_a_member(acme: str) -> None:
    globex = await add_tenant("Globex")
    await models.Membership.create(user_id=GRACE, tenant_id=globex, role=Role.OWNER)

    with pytest.raises(TenantAccessDenied):
        await TenantsService(LocalNotifier()).assign_user_to_tenant(
            assignment_of(new_id("usr"), acme, Role.GUEST, by=GRACE)
        )

    assert await models.Membership.all().count() == 2


# ------------------------------------------------------------------------------------------------- changes of access


@pytest.fixture
async def owned(acme: str) -> str:
    """Ada owns Acme, Grace administers it."""
    await join(ADA, acme, Role.OWNER)
    await join(GRACE, acme, Role.ADMIN)
    return acme


async def notifies(change_notifier: LocalNotifier, user_id: str, tenant_id: str, act: Awaitable[object]) -> bool:
    with change_notifier.subscribe(access_key(user_id, tenant_id)) as news:
        await act
        return news.is_set()


async def test_role_change_and_removal_take_effect_and_are_notified(owned: str) -> None:
    change_notifier = LocalNotifier()
    service = TenantsService(change_notifier)
    change = RoleChange(user_id=GRACE, tenant_id=owned, role=Role.GUEST, changed_by=ADA)
    assert await notifies(change_notifier, GRACE, owned, service.change_role(change))
    assert await service.roles({(GRACE, owned), (ADA, owned)}) == {(GRACE, owned): Role.GUEST, (ADA, owned): Role.OWNER}

    removal = MemberRemoval(user_id=GRACE, tenant_id=owned, removed_by=ADA)
    assert await notifies(change_notifier, GRACE, owned, service.remove_member(removal))
    assert await service.roles({(GRACE, owned)}) == {}


async def test_undone_assignment_is_notified(owned: str) -> None:
    change_notifier, linus = LocalNotifier(), new_id("usr")
    service = TenantsService(change_notifier)
    await service.assign_user_to_tenant(assignment_of(linus, owned, key="onboarding-1:assign"))
    assert await notifies(change_notifier, linus, owned, service.undo_assign_user_to_tenant("onboarding-1:assign"))


@pytest.mark.parametrize(
    ("who", "role", "by", "refused"),
    [
        (GRACE, Role.OWNER, GRACE, RoleTooHigh),
        (ADA, Role.MEMBER, GRACE, RoleTooHigh),
        (ADA, Role.ADMIN, ADA, LastOwner),
        (GRACE, Role.ADMIN, new_id("usr"), TenantAccessDenied),
        (new_id("usr"), Role.ADMIN, ADA, TenantAccessDenied),
    ],
    # Processes that share the tests of a run know each by the same name, which an id made anew would change.
    ids=["above one's own", "of a higher role", "of the last owner", "by a stranger", "of a stranger"],
)
async def test_role_change_without_permission_is_denied(
    owned: str, who: str, role: Role, by: str, refused: type[Exception]
) -> None:
    service = TenantsService(LocalNotifier())
    with pytest.raises(refused):
        await service.change_role(RoleChange(user_id=who, tenant_id=owned, role=role, changed_by=by))
    assert await service.roles({(ADA, owned), (GRACE, owned)}) == {(ADA, owned): Role.OWNER, (GRACE, owned): Role.ADMIN}


async def test_member_may_leave_but_the_last_owner_may_not(owned: str) -> None:
    service = TenantsService(LocalNotifier())
    await join(GRACE, owned, Role.MEMBER)
    with pytest.raises(PermissionDenied):
        await service.remove_member(MemberRemoval(user_id=ADA, tenant_id=owned, removed_by=GRACE))
    with pytest.raises(LastOwner):
        await service.remove_member(MemberRemoval(user_id=ADA, tenant_id=owned, removed_by=ADA))
    await service.remove_member(MemberRemoval(user_id=GRACE, tenant_id=owned, removed_by=GRACE))
    assert set(await service.roles({(ADA, owned), (GRACE, owned)})) == {(ADA, owned)}


async def test_concurrent_mutual_demotions_keep_one_owner(postgres_database: None) -> None:
    service = TenantsService(LocalNotifier())
    for _ in range(10):
        acme = await add_tenant(new_id("key"))
        await join(ADA, acme, Role.OWNER)
        await join(GRACE, acme, Role.OWNER)
        changes = [
            RoleChange(user_id=who, tenant_id=acme, role=Role.MEMBER, changed_by=by)
            for who, by in ((ADA, GRACE), (GRACE, ADA))
        ]
        await asyncio.gather(*map(service.change_role, changes), return_exceptions=True)
        assert Role.OWNER in (await service.roles({(ADA, acme), (GRACE, acme)})).values()


async def test_queued_mutual_demotions_keep_one_owner(postgres_database: None, shared_postgres_url: str) -> None:
    service, acme = TenantsService(LocalNotifier()), await add_tenant("Acme")
    await join(ADA, acme, Role.OWNER)
    await join(GRACE, acme, Role.OWNER)
    async with held_row(shared_postgres_url, "tenants_membership", "tenant_id", acme) as rows:
        changing = [
            await rows.queue(
                service.change_role(RoleChange(user_id=who, tenant_id=acme, role=Role.MEMBER, changed_by=by))
            )
            for who, by in ((ADA, GRACE), (GRACE, ADA))
        ]
    changed, refused = await asyncio.gather(*changing, return_exceptions=True)

    assert isinstance(changed, Membership)
    assert isinstance(refused, PermissionDenied)
    assert await service.roles({(ADA, acme), (GRACE, acme)}) == {(ADA, acme): Role.MEMBER, (GRACE, acme): Role.OWNER}


async def test_list_contains_at_most_500_tenants(any_database: None) -> None:
    await models.Membership.bulk_create(
        [models.Membership(user_id=ADA, tenant_id=new_id("ten"), role=Role.GUEST) for _ in range(501)]
    )
    await models.Tenant.bulk_create(
        [
            models.Tenant(id=row.tenant_id, name="x", slug=row.tenant_id, subscription_tier=SubscriptionTier.FREE)
            for row in await models.Membership.all()
        ]
    )

    assert len(await TenantsService(LocalNotifier()).list_tenants_of(ADA)) == 500
