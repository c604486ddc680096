"""Types for users: profiles, preferences and home tenants."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from contracts.auth import Role
from contracts.base import Contract


class User(Contract):
    """A user as another user sees them. ``mfa_enabled`` is None if the other user may not read it."""

    id: str
    email: str
    name: str
    mfa_enabled: bool | None
    created_at: datetime


class HomeTenant(Contract):
    """The home tenant of a user: the tenant in which the user works and in which the next login starts."""

    user_id: str
    tenant_id: str


class TenantChange(Contract):
    """Input of the step that sets the home tenant of a user, and of its undo. ``key``: idempotency key of the step."""

    key: str
    user_id: str
    tenant_id: str


class NewUser(Contract):
    """A user to create. ``key``: idempotency key of the step; ``tenant_id``: the home tenant."""

    key: str
    user_id: str
    email: str
    name: str
    mfa_enabled: bool
    tenant_id: str


class OnboardUserCommand(Contract):
    """Input of the workflow OnboardUser: the user who starts it (``user_id``), and the data of the new user.

    ``password_hash``: Argon2id in PHC format; ``totp_secret``: base 32, None without multi-factor authentication. The
    gateway creates both.
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
        """Whether the new user needs a second factor to sign in."""
        return self.totp_secret is not None


class Theme(StrEnum):
    """The colour theme of the user interface. SYSTEM: as the operating system."""

    SYSTEM = "SYSTEM"
    LIGHT = "LIGHT"
    DARK = "DARK"


class Preferences(Contract):
    """The preferences of a user. ``language``: a BCP 47 tag; ``timezone``: a name of the IANA database."""

    language: str = "en"
    timezone: str = "UTC"
    theme: Theme = Theme.SYSTEM
    email_notifications: bool = True


class PreferencesPatch(Contract):
    """A change of preferences; fields that are None stay unchanged."""

    language: str | None = None
    timezone: str | None = None
    theme: Theme | None = None
    email_notifications: bool | None = None
