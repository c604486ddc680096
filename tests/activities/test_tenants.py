"""Tenants: there for their members only."""

import pytest

from activities.tenants import models
from activities.tenants.service import TenantsService
from contracts.auth import Role
from contracts.base import new_id
from contracts.errors import Conflict, EffectUndone, PermissionDenied, TenantAccessDenied
from contracts.tenants import AccessRequest, Assignment, FeatureFlag, Membership, SubscriptionTier, Tenant

ADA, GRACE = new_id("usr"), new_id("usr")


@pytest.fixture
async def acme(opened: None) -> str:
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


async def test_a_member_has_access_in_their_role(acme: str) -> None:
    membership = await TenantsService().check_access(AccessRequest(user_id=ADA, tenant_id=acme))

    assert membership == Membership(user_id=ADA, tenant_id=acme, role=Role.ADMIN)


@pytest.mark.parametrize("absent", ["ten_" + "f" * 32, "", "\0", "acme", "x" * 5000])
async def test_a_foreign_tenant_and_none_at_all_are_the_same(acme: str, absent: str) -> None:
    service, refusals = TenantsService(), []

    for tenant_id in (acme, absent):
        for ask in (service.check_access, service.load_tenant_data):
            with pytest.raises(TenantAccessDenied) as refused:
                await ask(AccessRequest(user_id=GRACE, tenant_id=tenant_id))
            refusals.append(refused.value.message)
        assert await service.get_tenants(GRACE, [tenant_id]) == []

    assert len(set(refusals)) == 1


async def test_a_member_sees_the_tenant_with_its_flags_and_their_role(acme: str) -> None:
    tenant = await TenantsService().load_tenant_data(AccessRequest(user_id=ADA, tenant_id=acme))

    assert tenant == Tenant(
        id=acme,
        name="Acme",
        slug="acme",
        subscription_tier=SubscriptionTier.PROFESSIONAL,
        feature_flags=(FeatureFlag(name="audit_log", enabled=False), FeatureFlag(name="dashboards", enabled=True)),
        role=Role.ADMIN,
    )


async def test_tenants_come_in_the_order_asked_for_and_all_of_them_by_name(acme: str) -> None:
    service, globex, foreign = TenantsService(), await add_tenant("Globex"), await add_tenant("Initech")
    await models.Membership.create(user_id=ADA, tenant_id=globex, role=Role.GUEST)
    await models.Membership.create(user_id=GRACE, tenant_id=foreign, role=Role.OWNER)

    asked = await service.get_tenants(ADA, [globex, foreign, acme, globex])

    assert [(tenant.id, tenant.role) for tenant in asked] == [(globex, Role.GUEST), (acme, Role.ADMIN)]
    assert [tenant.name for tenant in await service.list_tenants_of(ADA)] == ["Acme", "Globex"]
    assert await service.list_tenants_of(new_id("usr")) == []


async def test_assigning_a_user_can_be_tried_again_and_undone(acme: str) -> None:
    service = TenantsService()
    assignment = assignment_of(GRACE, acme, key="onboarding-1:assign_to_tenant")

    first = await service.assign_user_to_tenant(assignment)
    assert await service.assign_user_to_tenant(assignment) == first
    assert await service.check_access(AccessRequest(user_id=GRACE, tenant_id=acme)) == first

    for _ in range(2):
        await service.remove_user_from_tenant(assignment.key)
    with pytest.raises(TenantAccessDenied):
        await service.check_access(AccessRequest(user_id=GRACE, tenant_id=acme))
    with pytest.raises(EffectUndone):
        await service.assign_user_to_tenant(assignment)


async def test_an_undo_of_an_assignment_that_never_was_leaves_the_others_alone(acme: str) -> None:
    await TenantsService().remove_user_from_tenant("onboarding-1:assign_to_tenant")

    assert await models.Membership.all().count() == 1


async def test_a_member_is_not_assigned_again_and_nobody_to_no_tenant(acme: str) -> None:
    service = TenantsService()

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
async def test_a_role_is_given_by_those_who_may_onboard_and_have_one_as_high(
    acme: str, giver: Role, given: list[Role]
) -> None:
    service, linus = TenantsService(), new_id("usr")
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


async def test_who_assigns_belongs_to_the_tenant(acme: str) -> None:
    globex = await add_tenant("Globex")
    await models.Membership.create(user_id=GRACE, tenant_id=globex, role=Role.OWNER)

    with pytest.raises(TenantAccessDenied):
        await TenantsService().assign_user_to_tenant(assignment_of(new_id("usr"), acme, Role.GUEST, by=GRACE))

    assert await models.Membership.all().count() == 2
