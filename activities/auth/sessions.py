"""The rules of sessions: which token opens which session, and what the session permits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from pydantic import JsonValue
from tortoise.expressions import Q
from tortoise.queryset import QuerySet

from activities.auth import models
from activities.auth.memberships import Memberships
from activities.auth.revocations import RevocationPublisher
from activities.idempotency import once, undo
from activities.transactions import atomic
from contracts.auth import (
    PERMISSIONS,
    NewSession,
    PermissionCheck,
    ReplacedSession,
    Role,
    Session,
    SessionHandover,
    SessionLookup,
    SessionLookups,
    SessionMatch,
    SignIn,
    is_step_of,
)
from contracts.base import Contract, is_id, new_id, utc_now
from contracts.errors import PermissionDenied, SessionEnded, SessionNotFound
from infrastructure.observability.audit import Audit, audit

SESSION_LIFETIME = timedelta(hours=24)
"""The maximum, from its creation."""
SESSION_IDLE = timedelta(hours=2)
"""The maximum without use."""
SEEN_EVERY = timedelta(minutes=5)
"""The interval of writes of the last use. A session may be idle for this much longer than ``idle``."""
MOST_SESSIONS = 100
"""The maximum in one list."""


class _Opened(Contract):
    """The recorded answer of a step that created or activated a session."""

    id: str
    token_hash: str


class _HandedOver(Contract):
    """The recorded answer of a handover."""

    opened: _Opened
    ended: _Opened | None = None


class SessionsService:
    """Sessions. After a commit that ends one, ``revocations`` publishes it to the gateways.

    A session is valid while its user is a member of its tenant, and has the role that ``memberships`` return then.
    """

    def __init__(
        self,
        revocations: RevocationPublisher,
        clock: Callable[[], datetime] = utc_now,
        *,
        memberships: Memberships,
        idle: timedelta = SESSION_IDLE,
    ) -> None:
        self._revocations = revocations
        self._memberships = memberships
        self._clock = clock
        self._idle = idle

    async def create_session(self, new: NewSession) -> Session:
        """Create an inactive session. Raises SessionEnded if the one that it replaces does not exist."""

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
        """Record that the user signed in, and activate the session. Raises SessionEnded."""

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
        """Activate the new session and end the old one.

        Raises:
            SessionEnded: one of them has ended. So a running switch does not escape a revocation of the old session.
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
        """Undo the handover. A session that was revoked since, the new one included, remains ended."""

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
        """Raises SessionEnded unless it is valid now, or an earlier run of ``operation_id`` ended it."""
        id = session_id if is_id(session_id, "ses") else ""
        if operation_id is not None:
            row = await models.Session.get_or_none(id=id, expires_at__gt=self._clock())
            if row is not None and is_step_of(row.ended_by, operation_id):
                return await self._view(row)
        return await self._view(await self._find(id=id))

    async def get_current_session(self, lookup: SessionLookup) -> Session:
        """Return the valid session of the token, and record its use. Raises SessionEnded."""
        known = _is_token_hash(lookup.token_hash)
        row = await self._find(token_hash=lookup.token_hash if known else "")
        session = await self._view(row)
        await self._record_use([row])
        return session

    async def get_current_sessions(self, lookups: SessionLookups) -> list[SessionMatch]:
        """Return the valid sessions of the tokens, in no order, and record their use."""
        hashes = [each for each in lookups.token_hashes if _is_token_hash(each)]
        views = await self._views(await self._live().filter(token_hash__in=hashes))
        await self._record_use([row for row, _ in views])
        return [SessionMatch(token_hash=row.token_hash, session=session) for row, session in views]

    async def get_handed_over_session(self, lookup: SessionLookup) -> ReplacedSession:
        """Return the session of the token if a handover ended it. Raises SessionEnded for any other."""
        row = await models.Session.get_or_none(token_hash=lookup.token_hash, expires_at__gt=self._clock())
        if row is None or row.ended_by is None:
            raise SessionEnded()
        return ReplacedSession(session=await self._view(row), ended_by=row.ended_by)

    async def list_sessions(self, user_id: str) -> list[Session]:
        """The user's valid sessions in all tenants, newest first."""
        rows = await self._live().filter(user_id=user_id).order_by("-created_at", "id").limit(MOST_SESSIONS)
        return [session for _, session in await self._views(rows)]

    async def end_session(self, user_id: str, session_id: str, *, by: Audit = Audit.SIGN_OUT) -> None:
        """End a session of the user; idempotent. Raises SessionNotFound, also for another user's session."""
        mine = models.Session.filter(id=session_id if is_id(session_id, "ses") else "", user_id=user_id)

        async def end() -> models.Session:
            row = await mine.select_for_update().get_or_none()
            if row is None:
                raise SessionNotFound()
            await mine.update(ended_at=row.ended_at or self._clock(), ended_by=None)
            return row

        ended = await atomic(end)
        audit(by, user=user_id, session=ended.id)
        await self._revocations.post(ended.token_hash)

    async def check_permissions(self, check: PermissionCheck, user_id: str | None = None) -> Session:
        """Return the session if it has all these permissions. ``user_id``: it must be this user's.

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
        """Raises SessionEnded if its user is no longer a member of its tenant."""
        for _, session in await self._views([row]):
            return session
        raise SessionEnded()

    async def _views(self, rows: Sequence[models.Session]) -> list[tuple[models.Session, Session]]:
        """The sessions whose users are members, with their current roles."""
        if not rows:
            return []
        roles = await self._memberships.roles({(row.user_id, row.tenant_id) for row in rows})
        members = ((row, roles.get((row.user_id, row.tenant_id))) for row in rows)
        return [(row, _session(row, role)) for row, role in members if role is not None]

    def _live(self) -> QuerySet[models.Session]:
        now = self._clock()
        in_use = Q(last_seen_at__isnull=True) | Q(last_seen_at__gt=now - self._idle - SEEN_EVERY)
        return models.Session.filter(in_use, active=True, ended_at=None, expires_at__gt=now)

    async def _record_use(self, rows: Sequence[models.Session]) -> None:
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
