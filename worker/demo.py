"""Demo data for development: two tenants and three users with a public password."""

from __future__ import annotations

from activities.auth import models as auth
from activities.tenants import models as tenants
from activities.transactions import atomic
from activities.users import models as users
from contracts.auth import Role
from contracts.base import new_id, utc_now
from contracts.email_addresses import email_key
from contracts.tenants import SubscriptionTier
from infrastructure.passwords import Passwords

PASSWORD = "adx-demo-password"  # noqa: S105 - it is public
TOTP_SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"  # noqa: S105 - it is public


_DOMAIN = "example.com"
"""Reserved for examples by RFC 2606, so no mailbox exists there."""


class DemoDataInProduction(Exception):
    """A production database has a demo account, whose password is public."""


async def refuse_demo_data() -> None:
    """Raise DemoDataInProduction if the database has a demo account."""
    keys = [email_key(f"{account}@{_DOMAIN}") for account in ("ada", "grace", "alan")]
    if await auth.Credential.filter(email_key__in=keys).exists():
        raise DemoDataInProduction(
            "The database has demo accounts, whose password is public: use another database in production."
        )


async def seed_demo_data(passwords: Passwords) -> bool:
    """Write the demo data in one transaction; return False, without a change, if a user or tenant exists."""
    password_hash = await passwords.hash(PASSWORD)

    async def fill() -> bool:
        if await users.User.exists() or await tenants.Tenant.exists():
            return False
        acme = await _tenant("Acme", SubscriptionTier.PROFESSIONAL, dashboards=True, audit_log=False)
        globex = await _tenant("Globex", SubscriptionTier.ENTERPRISE, dashboards=True, audit_log=True)
        await _user("Ada Lovelace", "ada", password_hash, {acme: Role.ADMIN, globex: Role.ADMIN})
        await _user("Grace Hopper", "grace", password_hash, {acme: Role.MEMBER})
        await _user("Alan Turing", "alan", password_hash, {globex: Role.MEMBER}, totp_secret=TOTP_SECRET)
        return True

    return await atomic(fill)


async def _tenant(name: str, tier: SubscriptionTier, **flags: bool) -> str:
    row = await tenants.Tenant.create(id=new_id("ten"), name=name, slug=name.lower(), subscription_tier=tier)
    for flag, enabled in flags.items():
        await tenants.FeatureFlag.create(tenant_id=row.id, name=flag, enabled=enabled)
    return row.id


async def _user(
    name: str, account: str, password_hash: str, roles: dict[str, Role], totp_secret: str | None = None
) -> None:
    """Create a user with a role in each tenant; the first tenant is the current one."""
    user_id, email = new_id("usr"), f"{account}@{_DOMAIN}"
    key = email_key(email)
    await users.User.create(
        id=user_id,
        email=email,
        email_key=key,
        name=name,
        mfa_enabled=totp_secret is not None,
        tenant_id=next(iter(roles)),
        created_at=utc_now(),
    )
    await auth.Credential.create(
        user_id=user_id,
        email=email,
        email_key=key,
        password_hash=password_hash,
        totp_secret=totp_secret,
    )
    for tenant_id, role in roles.items():
        await users.Affiliation.create(user_id=user_id, tenant_id=tenant_id)
        await tenants.Membership.create(user_id=user_id, tenant_id=tenant_id, role=role)
