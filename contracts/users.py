"""Users: their profiles, preferences and the tenant each works in."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from contracts.auth import Role
from contracts.base import Contract


class User(Contract):
    """A user as a viewer sees them. ``mfa_enabled`` is None for a viewer who may not read it."""

    id: str
    email: str
    name: str
    mfa_enabled: bool | None
    created_at: datetime


class HomeTenant(Contract):
    """The tenant that a user works in now."""

    user_id: str
    tenant_id: str


class TenantChange(Contract):
    """Set the tenant that a user works in. ``key`` makes the step idempotent and names it to its undo."""

    key: str
    user_id: str
    tenant_id: str


class NewUser(Contract):
    """A user to create, who works in ``tenant_id`` first. ``key`` makes the step idempotent."""

    key: str
    user_id: str
    email: str
    name: str
    mfa_enabled: bool
    tenant_id: str


class OnboardUserCommand(Contract):
    """Input of the workflow OnboardUser: who starts it (``user_id``, in this session and tenant), and the new user.

    ``password_hash``: argon2id, PHC form; ``totp_secret``: base 32, where MFA was asked for. Both are made at the edge.
    """

    user_id: str
    session_id: str
    tenant_id: str
    new_user_id: str
    email: str
    name: str
    role: Role
    password_hash: str = Field(repr=False)
    totp_secret: str | None = Field(default=None, repr=False)

    @property
    def mfa_enabled(self) -> bool:
        return self.totp_secret is not None


class Theme(StrEnum):
    SYSTEM = "SYSTEM"
    LIGHT = "LIGHT"
    DARK = "DARK"


class Preferences(Contract):
    """``language``: BCP 47 tag; ``timezone``: IANA name."""

    language: str = "en"
    timezone: str = "UTC"
    theme: Theme = Theme.SYSTEM
    email_notifications: bool = True


class PreferencesPatch(Contract):
    """What is None stays as it is."""

    language: str | None = None
    timezone: str | None = None
    theme: Theme | None = None
    email_notifications: bool | None = None
