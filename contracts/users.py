"""Users: their profiles, preferences and the tenant each works in."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from contracts.base import Contract


class User(Contract):
    id: str
    email: str
    name: str
    mfa_enabled: bool
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
