"""The sessions service: creation, lookup, replacement and end of sessions, and the permissions of a session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from pydantic import JsonValue
from tortoise.expressions import Q
from tortoise.queryset import QuerySet

from activities.auth import models
from activities.auth.memberships import Memberships
from activities.auth.revocations import RevocationPublisher
from activities.idempotency import run_once, undo_once
from activities.transactions import atomic
from contracts.auth import (
    PERMISSIONS,
    NewSession,
    PermissionCheck,
    ReplacedSession,
    Role,
    Session,
    SessionLookup,
    SessionLookups,
    SessionMatch,
    SessionReplacement,
    SignIn,
    is_step_of,
)
from contracts.base import Contract, is_id, new_id, utc_now
from contracts.errors import PermissionDenied, SessionEnded, SessionNotFound
from infrastructure.observability.audit import AuditEvent, record_audit_event

SESSION_LIFETIME = timedelta(hours=24)
"""Maximum lifetime of a session from its creation."""
SESSION_IDLE_TIMEOUT = timedelta(hours=2)
"""Maximum time for which a session stays valid without use."""
LAST_SEEN_INTERVAL = timedelta(minutes=5)
"""Interval of writes of a session's last use. A session may be idle for this much longer than its idle timeout."""
MAX_SESSIONS = 100
"""Maximum number of sessions in one list."""


class _SessionResult(Contract):
    """The stored result of a step that created or activated a session."""

    id: str
    token_hash: str


class _ReplacementResult(Contract):
    """The stored result of a replacement of a session."""

    opened: _SessionResult
    ended: _SessionResult | None = None


class SessionsService:
    """Manages the sessions of users. A session is valid only while its user is a member of its tenant.

    Args:
        revocations: notifies the gateways of sessions that have ended, after the commit.
        clock: returns the current time.
        memberships: returns the current role of the session's user, which determines the permissions.
        idle_timeout: the time after which an unused session is no longer valid.
    """

    def __init__(
        self,
        revocations: RevocationPublisher,
        clock: Callable[[], datetime] = utc_now,
        *,
        memberships: Memberships,
        idle_timeout: timedelta = SESSION_IDLE_TIMEOUT,
    ) -> None:
        self._revocations = revocations
        self._memberships = memberships
        self._clock = clock
        self._idle_timeout = idle_timeout

    async def create_session(self, new: NewSession) -> Session:
        """Create an inactive session; ``replace_session`` or ``record_sign_in`` activates it.

        Raises:
            SessionEnded: the session that it replaces does not exist.
        """

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

        return Session.model_validate(await run_once(models.AuthIdempotencyRecord, new.key, create))

    async def undo_create_session(self, key: str) -> None:
        """Delete the session that the step of this key created."""

        async def delete(answer: JsonValue) -> None:
            await models.Session.filter(id=_SessionResult.model_validate(answer).id).delete()

        answer = await undo_once(models.AuthIdempotencyRecord, key, delete)
        if answer is not None:
            await self._revocations.publish(_SessionResult.model_validate(answer).token_hash)

    async def record_sign_in(self, sign_in: SignIn) -> None:
        """Record that the user signed in, and activate the session.

        Raises:
            SessionEnded: the session has ended or has expired.
        """

        async def record() -> JsonValue:
            row = await self._activate(sign_in.session_id)
            await models.SignIn.create(
                session_id=row.id, user_id=row.user_id, tenant_id=row.tenant_id, signed_in_at=self._clock()
            )
            return _session_result(row).model_dump()

        await run_once(models.AuthIdempotencyRecord, sign_in.key, record)
        record_audit_event(AuditEvent.SIGN_IN, session=sign_in.session_id)

    async def undo_record_sign_in(self, key: str) -> None:
        """Delete the sign-in and deactivate the session."""

        async def delete(answer: JsonValue) -> None:
            opened = _SessionResult.model_validate(answer)
            await models.SignIn.filter(session_id=opened.id).delete()
            await models.Session.filter(id=opened.id).update(is_active=False)

        answer = await undo_once(models.AuthIdempotencyRecord, key, delete)
        if answer is not None:
            await self._revocations.publish(_SessionResult.model_validate(answer).token_hash)

    async def replace_session(self, replacement: SessionReplacement) -> None:
        """Activate the new session and end the old one.

        Raises:
            SessionEnded: one of the two sessions has ended, for example because the old one was revoked during
                the switch.
        """

        async def replace() -> JsonValue:
            ended = replacement.old_session_id and await self._end(
                replacement.old_session_id, ended_by_step=replacement.key
            )
            opened = await self._activate(replacement.session_id)
            return _ReplacementResult(
                opened=_session_result(opened), ended=_session_result(ended) if ended else None
            ).model_dump()

        done = _ReplacementResult.model_validate(await run_once(models.AuthIdempotencyRecord, replacement.key, replace))
        record_audit_event(
            AuditEvent.TENANT_SWITCHED, session=replacement.session_id, ended=done.ended.id if done.ended else None
        )
        if done.ended is not None:
            await self._revocations.publish(done.ended.token_hash)

    async def undo_replace_session(self, key: str) -> None:
        """Restore the old session and deactivate the new one. A session that was revoked in between remains ended."""

        async def restore(answer: JsonValue) -> None:
            done = _ReplacementResult.model_validate(answer)
            is_unrevoked = await models.Session.filter(id=done.opened.id, ended_at=None).update(is_active=False)
            if is_unrevoked and done.ended is not None:
                await models.Session.filter(id=done.ended.id, ended_by_step=key).update(
                    ended_at=None, ended_by_step=None
                )

        answer = await undo_once(models.AuthIdempotencyRecord, key, restore)
        if answer is None:
            return
        done = _ReplacementResult.model_validate(answer)
        await self._revocations.publish(done.opened.token_hash)
        if done.ended is not None and await self._valid().filter(id=done.ended.id).exists():
            await self._revocations.retract(done.ended.token_hash)

    async def get_session(self, session_id: str, *, operation_id: str | None = None) -> Session:
        """Return a session by its id.

        Raises:
            SessionEnded: the session is not valid, and no earlier run of ``operation_id`` has ended it.
        """
        id = session_id if is_id(session_id, "ses") else ""
        if operation_id is not None:
            row = await models.Session.get_or_none(id=id, expires_at__gt=self._clock())
            if row is not None and is_step_of(row.ended_by_step, operation_id):
                return await self._view(row)
        return await self._view(await self._find(id=id))

    async def get_current_session(self, lookup: SessionLookup) -> Session:
        """Return the valid session of the token, and record its use.

        Raises:
            SessionEnded: the token has no valid session.
        """
        is_hash = _is_token_hash(lookup.token_hash)
        row = await self._find(token_hash=lookup.token_hash if is_hash else "")
        session = await self._view(row)
        await self._record_use([row])
        return session

    async def get_current_sessions(self, lookups: SessionLookups) -> list[SessionMatch]:
        """Return the valid sessions of the tokens in any order, and record their use."""
        hashes = [each for each in lookups.token_hashes if _is_token_hash(each)]
        views = await self._views(await self._valid().filter(token_hash__in=hashes))
        await self._record_use([row for row, _ in views])
        return [SessionMatch(token_hash=row.token_hash, session=session) for row, session in views]

    async def get_replaced_session(self, lookup: SessionLookup) -> ReplacedSession:
        """Return the session of the token if ``replace_session`` has ended it.

        Raises:
            SessionEnded: the session does not exist, has expired, or was not ended by a replacement.
        """
        row = await models.Session.get_or_none(token_hash=lookup.token_hash, expires_at__gt=self._clock())
        if row is None or row.ended_by_step is None:
            raise SessionEnded()
        return ReplacedSession(session=await self._view(row), ended_by_step=row.ended_by_step)

    async def list_sessions(self, user_id: str) -> list[Session]:
        """Return the user's valid sessions in all tenants, newest first, at most ``MAX_SESSIONS``."""
        rows = await self._valid().filter(user_id=user_id).order_by("-created_at", "id").limit(MAX_SESSIONS)
        return [session for _, session in await self._views(rows)]

    async def end_session(self, user_id: str, session_id: str, *, by: AuditEvent = AuditEvent.SIGN_OUT) -> None:
        """End a session of the user; idempotent. ``by`` is the event for the audit log.

        Raises:
            SessionNotFound: the user has no such session.
        """
        own = models.Session.filter(id=session_id if is_id(session_id, "ses") else "", user_id=user_id)

        async def end() -> models.Session:
            row = await own.select_for_update().get_or_none()
            if row is None:
                raise SessionNotFound()
            await own.update(ended_at=row.ended_at or self._clock(), ended_by_step=None)
            return row

        ended = await atomic(end)
        record_audit_event(by, user=user_id, session=ended.id)
        await self._revocations.publish(ended.token_hash)

    async def check_permissions(self, check: PermissionCheck, user_id: str | None = None) -> Session:
        """Return the session if it has all the required permissions.

        Args:
            check: the session, the permissions, and optionally the required user and tenant of the session.
            user_id: the required user of the session, if any.

        Raises:
            SessionEnded: the session is not valid, or belongs to another user.
            PermissionDenied: a permission is missing, or the session is in another tenant.
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
        """Return the session of the row. Raises SessionEnded if its user is no longer a member of its tenant."""
        for _, session in await self._views([row]):
            return session
        raise SessionEnded()

    async def _views(self, rows: Sequence[models.Session]) -> list[tuple[models.Session, Session]]:
        """Return the rows whose users are members, with their sessions in the current role."""
        if not rows:
            return []
        roles = await self._memberships.roles({(row.user_id, row.tenant_id) for row in rows})
        members = ((row, roles.get((row.user_id, row.tenant_id))) for row in rows)
        return [(row, _session(row, role)) for row, role in members if role is not None]

    def _valid(self) -> QuerySet[models.Session]:
        now = self._clock()
        is_in_use = Q(last_seen_at__isnull=True) | Q(last_seen_at__gt=now - self._idle_timeout - LAST_SEEN_INTERVAL)
        return models.Session.filter(is_in_use, is_active=True, ended_at=None, expires_at__gt=now)

    async def _record_use(self, rows: Sequence[models.Session]) -> None:
        now = self._clock()
        outdated = [row.id for row in rows if row.last_seen_at is None or row.last_seen_at <= now - LAST_SEEN_INTERVAL]
        if outdated:
            await models.Session.filter(id__in=outdated).update(last_seen_at=now)

    async def _find(self, **conditions: str) -> models.Session:
        row = await self._valid().get_or_none(**conditions)
        if row is None:
            raise SessionEnded()
        return row

    async def _activate(self, session_id: str) -> models.Session:
        inactive = models.Session.filter(id=session_id, is_active=False, ended_at=None, expires_at__gt=self._clock())
        if not await inactive.update(is_active=True, last_seen_at=self._clock()):
            raise SessionEnded()
        return await models.Session.get(id=session_id)

    async def _end(self, session_id: str, *, ended_by_step: str) -> models.Session:
        if not await self._valid().filter(id=session_id).update(ended_at=self._clock(), ended_by_step=ended_by_step):
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


def _session_result(row: models.Session) -> _SessionResult:
    return _SessionResult(id=row.id, token_hash=row.token_hash)
