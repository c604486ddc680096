"""The demo data goes into an empty database only, and is what the walk-through speaks of."""

from activities.auth.credentials import CredentialsService
from activities.tenants.service import TenantsService
from activities.users import models as users
from contracts.auth import Credentials, MfaMethod, Redemption, Role
from contracts.tenants import SubscriptionTier
from infrastructure.change_notifications import LocalNotifier
from infrastructure.passwords import Passwords
from tests.activities.conftest import RecordingRevocationPublisher
from worker.demo import seed_demo_data


async def test_demo_data_fills_an_empty_database_once(any_database: None, passwords: Passwords) -> None:
    assert await seed_demo_data(passwords)
    assert not await seed_demo_data(passwords)

    assert sorted(user.email for user in await users.User.all()) == [
        "ada@example.com",
        "alan@example.com",
        "grace@example.com",
    ]


async def test_demo_user_ada_administers_both_tenants_and_starts_in_acme(
    any_database: None, passwords: Passwords
) -> None:
    await seed_demo_data(passwords)
    ada = await users.User.get(email="ada@example.com")

    acme, globex = await TenantsService(LocalNotifier()).list_tenants_of(ada.id)

    assert (acme.slug, acme.subscription_tier, acme.role) == ("acme", SubscriptionTier.PROFESSIONAL, Role.ADMIN)
    assert (globex.slug, globex.subscription_tier, globex.role) == ("globex", SubscriptionTier.ENTERPRISE, Role.ADMIN)
    assert ada.tenant_id == acme.id


async def test_demo_user_alan_signs_in_with_a_second_factor(
    any_database: None, passwords: Passwords, revocations: RecordingRevocationPublisher
) -> None:
    await seed_demo_data(passwords)
    service = CredentialsService(passwords, revocations)

    verified = await service.verify_credentials(
        Credentials.model_validate({"email": "alan@example.com", "password": "adx-demo-password"})
    )
    identity = await service.redeem_reference(Redemption(key="login-1:verify", reference=verified.reference))

    assert identity.mfa_method is MfaMethod.TOTP
