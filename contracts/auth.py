"""Signing in: credentials, sessions, roles and what each role may do."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from pydantic import Field, SecretStr

from contracts.base import Contract


class Role(StrEnum):
    """Highest first."""

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
"""What each role may do, in the one table there is."""


def roles_granted_by(role: Role) -> tuple[Role, ...]:
    """Those that whoever has this one may give to others: their own and the ones below it."""
    ranking = tuple(Role)
    return ranking[ranking.index(role) :]


class MfaMethod(StrEnum):
    TOTP = "TOTP"


class MfaChallenge(Contract):
    method: MfaMethod
    attempts_left: int
    expires_at: datetime


class Credentials(Contract):
    """What a user types. It goes from the edge to the auth service over HTTP and never into a workflow."""

    email: str
    password: SecretStr


class VerifiedCredentials(Contract):
    """The auth service's word that somebody gave the right password: a one-time reference that a login redeems."""

    reference: str
    user_id: str


class Identity(Contract):
    """Who redeemed a reference."""

    user_id: str
    mfa_method: MfaMethod | None = None


class Redemption(Contract):
    """A login redeems its reference. ``key`` makes the step idempotent."""

    key: str
    reference: str


class TotpAttempt(Contract):
    """A user gives a six-digit code (RFC 6238). ``key`` is another one for each try."""

    key: str
    user_id: str
    code: str


class NewAuthentication(Contract):
    """How a new user will sign in. ``password_hash``: argon2id, PHC form, from the edge; ``totp_secret``: base 32."""

    key: str
    user_id: str
    email: str
    password_hash: str = Field(repr=False)
    totp_secret: str | None = Field(default=None, repr=False)


class LogInCommand(Contract):
    """Input of the workflow LogIn. ``token_hash``: lower-case hex SHA-256 of the session token."""

    reference: str
    user_id: str
    tenant_id: str | None
    token_hash: str


class NewSession(Contract):
    """A session to create. It opens nothing until it is activated. ``key`` makes the step idempotent.

    ``replaces``: the session that it takes the place of. It expires no later than that one would have.
    """

    key: str
    user_id: str
    tenant_id: str
    role: Role
    token_hash: str
    replaces: str | None = None


class SessionReplacement(Contract):
    """Activate one session and, where ``old_session_id`` is set, end the other, in one transaction."""

    key: str
    session_id: str
    old_session_id: str | None = None


class SignIn(Contract):
    """Somebody signed in: note it and activate the session."""

    key: str
    session_id: str


class SessionRef(Contract):
    session_id: str


class PermissionCheck(Contract):
    """May whoever holds this session do all of these? Where ``user_id`` and ``tenant_id`` are set, it must be that
    user's session in that tenant."""

    session_id: str
    permissions: tuple[str, ...]
    user_id: str | None = None
    tenant_id: str | None = None


class Session(Contract):
    """A session as the auth service knows it. ``role`` is the membership's as it is now; ``permissions`` are those of
    the role, sorted.
    """

    id: str
    user_id: str
    tenant_id: str
    role: Role
    permissions: tuple[str, ...]
    created_at: datetime
    expires_at: datetime


class SessionLookup(Contract):
    token_hash: str


MOST_LOOKUPS = 500


class SessionLookups(Contract):
    """Sessions looked for together."""

    token_hashes: tuple[str, ...] = Field(max_length=MOST_LOOKUPS)


class SessionMatch(Contract):
    """What the token of this hash opens."""

    token_hash: str
    session: Session


class ReplacedSession(Contract):
    """A session that a switch of tenant ended, and the key of the step that did."""

    session: Session
    ended_by_step: str

    def was_ended_by(self, operation_id: str) -> bool:
        return is_step_of(self.ended_by_step, operation_id)


def is_step_of(key: str | None, operation_id: str) -> bool:
    """Whether an idempotency key is that of one of the operation's steps."""
    return key is not None and key.startswith(f"{operation_id}:")


HOT_SESSION_SECONDS = 0.8
"""How long the edge may trust its copy of a session: a role or membership that changes decides within a second."""
REVOKED_SECONDS = 30
"""How long the cache keeps a revocation."""
REVOKED = "revoked"
"""What stands in place of the copy once the session is revoked."""


class CachedSession(Contract):
    """The edge's copy of a session. ``read_at``: when the auth service was asked, which counts, however long a cache
    keeps the copy.
    """

    session: Session
    read_at: datetime


def hot_session_key(token_hash: str) -> str:
    """Cache key of the edge's copy (a HotSession as JSON, or ``REVOKED``)."""
    return f"auth:session:{token_hash}"


def access_key(user_id: str, tenant_id: str) -> str:
    """Name of the change notification of a user's role or membership in a tenant."""
    return f"tenants:access:{user_id}:{tenant_id}"
