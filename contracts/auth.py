"""Types for authentication and authorization: credentials, sessions, roles, and the permissions of each role."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from pydantic import Field, SecretStr

from contracts.base import Contract


class Role(StrEnum):
    """A member's role in a tenant, the highest first."""

    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"
    GUEST = "guest"


_READ = ("tenant:read", "files:read", "operations:read")
_WRITE = ("files:write", "files:process", "workspaces:write")
_ADMINISTER = ("users:read", "users:onboard", "operations:administer")

PERMISSIONS = MappingProxyType(
    {
        Role.GUEST: frozenset(_READ),
        Role.MEMBER: frozenset(_READ + _WRITE),
        Role.ADMIN: frozenset(_READ + _WRITE + _ADMINISTER),
        Role.OWNER: frozenset((*_READ, *_WRITE, *_ADMINISTER, "tenant:administer")),
    }
)
"""The permissions of each role."""


def grantable_roles(role: Role) -> tuple[Role, ...]:
    """Return the roles that a member with this role may grant: the same role and all lower ones."""
    ranking = tuple(Role)
    return ranking[ranking.index(role) :]


class MfaMethod(StrEnum):
    """A method of multi-factor authentication."""

    TOTP = "TOTP"


class MfaChallenge(Contract):
    """A request for a second factor, for which a login waits until ``expires_at``."""

    method: MfaMethod
    attempts_left: int
    expires_at: datetime


class Credentials(Contract):
    """The e-mail address and password that a user enters.

    The gateway sends them to the auth service over HTTP; they never become input of a workflow.
    """

    email: str
    password: SecretStr


class VerifiedCredentials(Contract):
    """A reference that proves to the auth service that the password was correct; a login redeems it once."""

    reference: str
    user_id: str


class Identity(Contract):
    """The user whose verified credentials a login has redeemed, and the second factor that the user needs."""

    user_id: str
    mfa_method: MfaMethod | None = None


class Redemption(Contract):
    """Input of the step that redeems the reference of a login. ``key``: idempotency key of the step."""

    key: str
    reference: str


class TotpAttempt(Contract):
    """A six-digit code (RFC 6238) that a user entered. ``key``: idempotency key, a new one for each attempt."""

    key: str
    user_id: str
    code: str


class NewAuthentication(Contract):
    """The credentials of a new user.

    ``key``: idempotency key of the step; ``password_hash``: Argon2id in PHC format, computed by the gateway;
    ``totp_secret``: base 32, None without multi-factor authentication.
    """

    key: str
    user_id: str
    email: str
    password_hash: str = Field(repr=False)
    totp_secret: str | None = Field(default=None, repr=False)


class LogInCommand(Contract):
    """Input of the workflow LogIn. ``token_hash``: SHA-256 of the session token in lower-case hexadecimal digits."""

    reference: str
    user_id: str
    tenant_id: str | None
    token_hash: str


class NewSession(Contract):
    """A session to create. It grants no access until it is activated.

    ``key``: idempotency key of the step; ``token_hash``: SHA-256 of the session token; ``replaces``: the id of the
    session that it replaces, whose expiry time it does not exceed.
    """

    key: str
    user_id: str
    tenant_id: str
    role: Role
    token_hash: str
    replaces: str | None = None


class SessionReplacement(Contract):
    """Input of the step that activates a session and ends ``old_session_id``, if set, in one transaction."""

    key: str
    session_id: str
    old_session_id: str | None = None


class SignIn(Contract):
    """Input of the step that records a sign-in and activates its session. ``key``: idempotency key of the step."""

    key: str
    session_id: str


class SessionRef(Contract):
    """The id of a session."""

    session_id: str


class PermissionCheck(Contract):
    """A request to check that a session has all of these permissions.

    If ``user_id`` and ``tenant_id`` are set, the session must also belong to this user and this tenant.
    """

    session_id: str
    permissions: tuple[str, ...]
    user_id: str | None = None
    tenant_id: str | None = None


class Session(Contract):
    """A valid session. ``role``: the user's current role in the tenant; ``permissions``: those of the role, sorted."""

    id: str
    user_id: str
    tenant_id: str
    role: Role
    permissions: tuple[str, ...]
    created_at: datetime
    expires_at: datetime


class SessionLookup(Contract):
    """A request for the session whose token has this SHA-256 hash."""

    token_hash: str


MAX_SESSION_LOOKUPS = 500


class SessionLookups(Contract):
    """A request for several sessions by the hashes of their tokens."""

    token_hashes: tuple[str, ...] = Field(max_length=MAX_SESSION_LOOKUPS)


class SessionMatch(Contract):
    """A session that was found, with the hash of its token."""

    token_hash: str
    session: Session


class ReplacedSession(Contract):
    """A session that a tenant switch has ended. ``ended_by_step``: the idempotency key of the step that ended it."""

    session: Session
    ended_by_step: str

    def was_ended_by(self, operation_id: str) -> bool:
        """Return whether a step of this operation ended the session."""
        return is_step_of(self.ended_by_step, operation_id)


def is_step_of(key: str | None, operation_id: str) -> bool:
    """Return whether an idempotency key belongs to a step of the operation."""
    return key is not None and key.startswith(f"{operation_id}:")


SESSION_CACHE_TTL_SECONDS = 0.8
"""Time for which the gateway uses a cached session, so that a changed role takes effect within a second."""
REVOCATION_TTL_SECONDS = 30
"""Time for which the cache keeps the marker of a revoked session."""
REVOKED = "revoked"
"""The value that replaces a cached session when the session is revoked."""


class CachedSession(Contract):
    """A session in the gateway's cache. ``read_at``: when the auth service returned it; its age counts from then."""

    session: Session
    read_at: datetime


def session_cache_key(token_hash: str) -> str:
    """Return the cache key of a session; the value is a ``CachedSession`` as JSON, or ``REVOKED``."""
    return f"auth:session:{token_hash}"


def access_key(user_id: str, tenant_id: str) -> str:
    """Return the name of the change notifications of a user's role or membership in a tenant."""
    return f"tenants:access:{user_id}:{tenant_id}"
