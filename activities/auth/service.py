"""The rules of signing in: who gave the right password or code, and which session opens what."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from pydantic import JsonValue
from pyotp.totp import TOTP
from tortoise.expressions import Q
from tortoise.queryset import QuerySet

from activities.auth import models
from activities.auth.memberships import Memberships
from activities.auth.revocations import Revocations
from activities.auth.sealing import UNSEALED, SecretSeal
from activities.effects import once, undo
from activities.transactions import in_one_transaction
from contracts.audit import Audit, audit
from contracts.auth import (
    PERMISSIONS,
    Credentials,
    FoundSession,
    HandedOverSession,
    Identity,
    MfaMethod,
    NewAuthentication,
    NewSession,
    PermissionCheck,
    Redemption,
    Role,
    Session,
    SessionHandover,
    SessionLookup,
    SessionLookups,
    SignIn,
    TotpAttempt,
    VerifiedCredentials,
    is_step_of,
)
from contracts.base import Contract, is_id, new_id, utc_now
from contracts.email_addresses import email_key
from contracts.errors import (
    EmailTaken,
    InvalidCredentials,
    InvalidMfaCode,
    PermissionDenied,
    SessionEnded,
    SessionNotFound,
)
from contracts.validation import Email, validate
from infrastructure.fair_queue import Requester
from infrastructure.passwords import Passwords

SESSION_LIFETIME = timedelta(hours=24)
"""In all, however much it is used."""
SESSION_IDLE = timedelta(hours=2)
"""Without being used."""
SEEN_EVERY = timedelta(minutes=5)
"""Between two notes that a session is in use; it may lie idle for so much longer."""
REFERENCE_LIFETIME = timedelta(minutes=5)
REFERENCE_KEPT = timedelta(hours=1)
"""How long after its end a reference is remembered, for the late retry of the step that redeemed it."""
TOTP_WINDOW = 1
"""Steps of 30 s by which a user's clock may be off, either way."""
MOST_SESSIONS = 100
"""How many sessions one listing shows."""


class _SignInName(Contract):
    """What a new user signs in as."""

    email: Email


class _Opened(Contract):
    """What the ledger keeps of a session that was opened or signed in with."""

    id: str
    token_hash: str


class _HandedOver(Contract):
    """What the ledger keeps of a handover."""

    opened: _Opened
    ended: _Opened | None = None


class AuthService:
    """Sessions and credentials. After a commit that ends a session, ``revocations`` publishes it to the gateways.

    A session opens something only while its user is a member of its tenant, in the role that ``memberships`` say then.
    """

    def __init__(
        self,
        passwords: Passwords,
        revocations: Revocations,
        clock: Callable[[], datetime] = utc_now,
        *,
        memberships: Memberships,
        seal: SecretSeal = UNSEALED,
        idle: timedelta = SESSION_IDLE,
    ) -> None:
        self._passwords = passwords
        self._revocations = revocations
        self._memberships = memberships
        self._clock = clock
        self._seal = seal
        self._idle = idle

    # ------------------------------------------------------------------------------------------- who it is

    async def verify_credentials(self, credentials: Credentials, *, client: str = "") -> VerifiedCredentials:
        """Return a one-time reference for the user of these credentials. ``client``: the digest of their network.

        Raises InvalidCredentials, whichever is wrong, and RateLimited where too many passwords wait to be checked.
        """
        key = email_key(credentials.email)
        requester = Requester(client, key)
        row = None if "\0" in key else await models.Credential.get_or_none(email_key=key)
        password = credentials.password.get_secret_value()
        right = await self._passwords.verify(row.password_hash if row else None, password, requester)
        if row is None or not right:
            raise InvalidCredentials()
        if self._passwords.is_outdated(row.password_hash):
            await models.Credential.filter(user_id=row.user_id, password_hash=row.password_hash).update(
                password_hash=await self._passwords.hash(password, requester)
            )
        now = self._clock()
        reference = secrets.token_urlsafe(32)
        await models.OneTimeReference.filter(user_id=row.user_id, expires_at__lt=now - REFERENCE_KEPT).delete()
        await models.OneTimeReference.create(
            hash=_sha256(reference), user_id=row.user_id, expires_at=now + REFERENCE_LIFETIME
        )
        return VerifiedCredentials(reference=reference, user_id=row.user_id)

    async def redeem_reference(self, redemption: Redemption) -> Identity:
        """Whose reference it is. The same key may redeem it again; another, or too late, raises InvalidCredentials."""
        references = models.OneTimeReference.filter(hash=_sha256(redemption.reference))
        await references.filter(redeemed_by=None, expires_at__gt=self._clock()).update(redeemed_by=redemption.key)
        reference = await references.get_or_none(redeemed_by=redemption.key)
        credential = reference and await models.Credential.get_or_none(user_id=reference.user_id)
        if not credential:
            raise InvalidCredentials()
        return Identity(
            user_id=credential.user_id, mfa_method=MfaMethod.TOTP if credential.totp_secret is not None else None
        )

    async def check_totp(self, attempt: TotpAttempt) -> None:
        """Accept a code of now or of a neighbouring step, each once (RFC 6238, 5.2). Raises InvalidMfaCode."""
        code = attempt.code.strip()

        async def accept() -> JsonValue:
            credential = await models.Credential.get_or_none(user_id=attempt.user_id)
            if credential is None or credential.totp_secret is None:
                raise InvalidMfaCode()
            totp = TOTP(self._seal.open(credential.totp_secret, owner=credential.user_id))
            present = int(self._clock().timestamp()) // totp.interval
            for step in range(present - TOTP_WINDOW, present + TOTP_WINDOW + 1):
                unused = models.Credential.filter(
                    Q(last_totp_step__isnull=True) | Q(last_totp_step__lt=step), user_id=attempt.user_id
                )
                if _equal(totp.generate_otp(step), code) and await unused.update(last_totp_step=step):
                    return _sha256(code)
            raise InvalidMfaCode()

        accepted = await once(models.AuthEffect, attempt.key, accept)
        if not _equal(str(accepted), _sha256(code)):
            raise InvalidMfaCode()

    async def set_up_authentication(self, new: NewAuthentication) -> None:
        """Let a new user sign in. Raises InvalidInput, EmailTaken."""
        email = validate(_SignInName, {"email": new.email}).email
        key = email_key(email)

        async def enter() -> JsonValue:
            if await models.Credential.exists(email_key=key):
                raise EmailTaken.at("email")
            sealed = new.totp_secret and self._seal.close(new.totp_secret, owner=new.user_id)
            await models.Credential.create(
                user_id=new.user_id,
                email=email,
                email_key=key,
                password_hash=new.password_hash,
                totp_secret=sealed,
            )
            return new.user_id

        await once(models.AuthEffect, new.key, enter)

    async def clean_up_authentication(self, key: str) -> None:
        """As if they had never been able to sign in: what they did with it meanwhile goes too."""
        opened: list[str] = []

        async def remove(user_id: JsonValue) -> None:
            opened.extend(row.token_hash for row in await models.Session.filter(user_id=user_id))
            for mine in (models.SignIn, models.Session, models.OneTimeReference, models.Credential):
                await mine.filter(user_id=user_id).delete()

        await undo(models.AuthEffect, key, remove)
        for token_hash in opened:
            await self._revocations.post(token_hash)

    # ------------------------------------------------------------------------------------------- sessions

    async def create_session(self, new: NewSession) -> Session:
        """A session that opens nothing yet."""

        async def create() -> JsonValue:
            now = self._clock()
            replaced = await models.Session.get_or_none(id=new.replaces) if new.replaces is not None else None
            if new.replaces is not None and replaced is None:
                raise SessionEnded()
            expires_at = now + SESSION_LIFETIME
            row = await models.Session.create(
                id=new_id("ses"),
                user_id=new.user_id,
                tenant_id=new.tenant_id,
                role=new.role,
                token_hash=new.token_hash,
                created_at=now,
                expires_at=expires_at if replaced is None else min(expires_at, replaced.expires_at),
            )
            return {**_session(row, new.role).model_dump(mode="json"), "token_hash": row.token_hash}

        return Session.model_validate(await once(models.AuthEffect, new.key, create))

    async def rollback_session_creation(self, key: str) -> None:
        async def delete(answer: JsonValue) -> None:
            await models.Session.filter(id=_Opened.model_validate(answer).id).delete()

        answer = await undo(models.AuthEffect, key, delete)
        if answer is not None:
            await self._revocations.post(_Opened.model_validate(answer).token_hash)

    async def record_sign_in(self, sign_in: SignIn) -> None:
        """Note that somebody signed in, and activate the session. Raises SessionEnded."""

        async def record() -> JsonValue:
            row = await self._activate(sign_in.session_id)
            await models.SignIn.create(
                session_id=row.id, user_id=row.user_id, tenant_id=row.tenant_id, signed_in_at=self._clock()
            )
            return _opened(row).model_dump()

        await once(models.AuthEffect, sign_in.key, record)
        audit(Audit.SIGN_IN, session=sign_in.session_id)

    async def forget_sign_in(self, key: str) -> None:
        async def forget(answer: JsonValue) -> None:
            opened = _Opened.model_validate(answer)
            await models.SignIn.filter(session_id=opened.id).delete()
            await models.Session.filter(id=opened.id).update(active=False)

        answer = await undo(models.AuthEffect, key, forget)
        if answer is not None:
            await self._revocations.post(_Opened.model_validate(answer).token_hash)

    async def hand_over_session(self, handover: SessionHandover) -> None:
        """Activate the new session and end the old one. Raises SessionEnded where either was ended meanwhile, so that a
        revocation of the old one is not escaped by a switch that was under way.
        """

        async def hand_over() -> JsonValue:
            ended = handover.old_session_id and await self._end(handover.old_session_id, ended_by=handover.key)
            opened = await self._activate(handover.session_id)
            return _HandedOver(opened=_opened(opened), ended=_opened(ended) if ended else None).model_dump()

        done = _HandedOver.model_validate(await once(models.AuthEffect, handover.key, hand_over))
        audit(Audit.TENANT_SWITCHED, session=handover.session_id, ended=done.ended.id if done.ended else None)
        if done.ended is not None:
            await self._revocations.post(done.ended.token_hash)

    async def restore_previous_session(self, key: str) -> None:
        """As it was before the handover; but what was revoked since, the new session included, stays over."""

        async def restore(answer: JsonValue) -> None:
            done = _HandedOver.model_validate(answer)
            unrevoked = await models.Session.filter(id=done.opened.id, ended_at=None).update(active=False)
            if unrevoked and done.ended is not None:
                await models.Session.filter(id=done.ended.id, ended_by=key).update(ended_at=None, ended_by=None)

        answer = await undo(models.AuthEffect, key, restore)
        if answer is None:
            return
        done = _HandedOver.model_validate(answer)
        await self._revocations.post(done.opened.token_hash)
        if done.ended is not None and await self._live().filter(id=done.ended.id).exists():
            await self._revocations.withdraw(done.ended.token_hash)

    async def get_session(self, session_id: str, *, operation_id: str | None = None) -> Session:
        """Raises SessionEnded unless it opens something now, or ``operation_id`` itself ended it in a run before."""
        id = session_id if is_id(session_id, "ses") else ""
        if operation_id is not None:
            row = await models.Session.get_or_none(id=id, expires_at__gt=self._clock())
            if row is not None and is_step_of(row.ended_by, operation_id):
                return await self._view(row)
        return await self._view(await self._find(id=id))

    async def get_current_session(self, lookup: SessionLookup) -> Session:
        """Raises SessionEnded unless the token opens something now. It counts as the session's use."""
        known = _is_token_hash(lookup.token_hash)
        row = await self._find(token_hash=lookup.token_hash if known else "")
        session = await self._view(row)
        await self._note_use([row])
        return session

    async def get_current_sessions(self, lookups: SessionLookups) -> list[FoundSession]:
        """Those that the tokens open now, in no order; one that opens nothing is left out. It counts as their use."""
        hashes = [each for each in lookups.token_hashes if _is_token_hash(each)]
        views = await self._views(await self._live().filter(token_hash__in=hashes))
        await self._note_use([row for row, _ in views])
        return [FoundSession(token_hash=row.token_hash, session=session) for row, session in views]

    async def get_handed_over_session(self, lookup: SessionLookup) -> HandedOverSession:
        """The session that the token opened until a handover ended it. Raises SessionEnded for any other."""
        row = await models.Session.get_or_none(token_hash=lookup.token_hash, expires_at__gt=self._clock())
        if row is None or row.ended_by is None:
            raise SessionEnded()
        return HandedOverSession(session=await self._view(row), ended_by=row.ended_by)

    async def list_sessions(self, user_id: str) -> list[Session]:
        """All that open something now, in whatever tenant, newest first."""
        rows = await self._live().filter(user_id=user_id).order_by("-created_at", "id").limit(MOST_SESSIONS)
        return [session for _, session in await self._views(rows)]

    async def end_session(self, user_id: str, session_id: str, *, by: Audit = Audit.SIGN_OUT) -> None:
        """Log out, or revoke; harmless where it has ended. Raises SessionNotFound, for a foreign one too."""
        mine = models.Session.filter(id=session_id if is_id(session_id, "ses") else "", user_id=user_id)

        async def end() -> models.Session:
            row = await mine.select_for_update().get_or_none()
            if row is None:
                raise SessionNotFound()
            await mine.update(ended_at=row.ended_at or self._clock(), ended_by=None)
            return row

        ended = await in_one_transaction(end)
        audit(by, user=user_id, session=ended.id)
        await self._revocations.post(ended.token_hash)

    async def check_permissions(self, check: PermissionCheck, user_id: str | None = None) -> Session:
        """The session, where whoever holds it may do all that is asked. ``user_id``: it must be this user's.

        Raises SessionEnded, PermissionDenied.
        """
        session = await self.get_session(check.session_id)
        if not {user_id, check.user_id} <= {None, session.user_id}:
            raise SessionEnded()
        if check.tenant_id not in (None, session.tenant_id):
            raise PermissionDenied()
        if not set(check.permissions) <= set(session.permissions):
            raise PermissionDenied()
        return session

    async def _view(self, row: models.Session) -> Session:
        """Raises SessionEnded if its user is not a member of its tenant any more."""
        for _, session in await self._views([row]):
            return session
        raise SessionEnded()

    async def _views(self, rows: Sequence[models.Session]) -> list[tuple[models.Session, Session]]:
        """Those whose users are members, with the roles of now."""
        if not rows:
            return []
        roles = await self._memberships.roles({(row.user_id, row.tenant_id) for row in rows})
        members = ((row, roles.get((row.user_id, row.tenant_id))) for row in rows)
        return [(row, _session(row, role)) for row, role in members if role is not None]

    def _live(self) -> QuerySet[models.Session]:
        now = self._clock()
        in_use = Q(last_seen_at__isnull=True) | Q(last_seen_at__gt=now - self._idle - SEEN_EVERY)
        return models.Session.filter(in_use, active=True, ended_at=None, expires_at__gt=now)

    async def _note_use(self, rows: Sequence[models.Session]) -> None:
        now = self._clock()
        seen = [row.id for row in rows if row.last_seen_at is None or row.last_seen_at <= now - SEEN_EVERY]
        if seen:
            await models.Session.filter(id__in=seen).update(last_seen_at=now)

    async def _find(self, **which: str) -> models.Session:
        row = await self._live().get_or_none(**which)
        if row is None:
            raise SessionEnded()
        return row

    async def _activate(self, session_id: str) -> models.Session:
        waiting = models.Session.filter(id=session_id, active=False, ended_at=None, expires_at__gt=self._clock())
        if not await waiting.update(active=True, last_seen_at=self._clock()):
            raise SessionEnded()
        return await models.Session.get(id=session_id)

    async def _end(self, session_id: str, *, ended_by: str) -> models.Session:
        if not await self._live().filter(id=session_id).update(ended_at=self._clock(), ended_by=ended_by):
            raise SessionEnded()
        return await models.Session.get(id=session_id)


def _is_token_hash(text: str) -> bool:
    return len(text) == 64 and text.isalnum()


def _session(row: models.Session, role: Role) -> Session:
    return Session(
        id=row.id,
        user_id=row.user_id,
        tenant_id=row.tenant_id,
        role=role,
        permissions=tuple(sorted(PERMISSIONS[role])),
        created_at=row.created_at,
        expires_at=row.expires_at,
    )


def _opened(row: models.Session) -> _Opened:
    return _Opened(id=row.id, token_hash=row.token_hash)


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
