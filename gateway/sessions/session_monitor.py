"""End what was started with a session once that session has ended or grants something else."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import TracebackType
from typing import Self
from uuid import uuid4

import structlog

from contracts.auth import MAX_SESSION_LOOKUPS, Session, access_key, session_cache_key
from contracts.base import utc_now
from contracts.errors import DomainError
from gateway.sessions.session_cache import SessionCache
from infrastructure.change_notifications import ChangeNotifier, wait_for_event
from infrastructure.tasks import BackgroundTasks
from resolvers.context import Context
from resolvers.tokens import token_hash

log = structlog.get_logger()


class SessionMonitor:
    """Finds sessions, and watches those that a socket or a stream was started with.

    A watched session is read again at each change notification and, with all others in one call, every
    ``check_seconds`` from the auth service itself: a change is noticed also where no notification arrives. A service
    that does not answer ends no session; its expiry does.
    """

    def __init__(self, sessions: SessionCache, change_notifier: ChangeNotifier, *, check_seconds: float) -> None:
        self._sessions = sessions
        self._change_notifier = change_notifier
        self._check_seconds = check_seconds
        self._watched: dict[str, _MonitoredSession] = {}
        self._tasks = BackgroundTasks()

    async def __aenter__(self) -> Self:
        self._tasks.supervise(self._check_regularly, name="check watched sessions")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._tasks.aclose()
        self._watched.clear()

    async def find(self, token: str, *, request_id: str) -> Session | None:
        """The session that the token opens now; None if it opens none. Raises DomainError if that is not known."""
        return await self._sessions.find(token, request_id=request_id)

    @contextmanager
    def staying(self, token: str, session: Session, over: Callable[[Session], None]) -> Iterator[None]:
        """While the block runs, call ``over`` once as soon as the session has ended or grants something else.

        ``session`` is what the token was found to open: a session that ended since then is noticed, too.
        """
        watched = self._watched.get(token)
        if watched is None:
            watched = self._watched[token] = _MonitoredSession(session)
            watched.task = self._tasks.start(self._watch(token, watched), name="watch a session")
        elif principal(watched.session) != principal(session):  # it was found before it changed, or after
            watched = _MonitoredSession(session)
            asyncio.get_running_loop().call_soon(watched.notify)
        watched.callbacks.add(over)
        try:
            yield
        finally:
            watched.callbacks.discard(over)
            if not watched.callbacks and self._watched.get(token) is watched:
                del self._watched[token]
                self._end_watch(watched)

    def known(self, token: str | None) -> Session | None:
        """The watched session of the token; None if it is not watched, whether or not it exists."""
        watched = self._watched.get(token or "")
        return watched.session if watched is not None else None

    async def is_back(self, token: str, ended: Session) -> bool:
        """Whether it is again what it was before it ended, as after a switch that was undone."""
        try:
            session = await self._sessions.look_up(token, request_id=uuid4().hex)
        except DomainError:
            return False
        return session is not None and principal(session) == principal(ended)

    async def _watch(self, token: str, watched: _MonitoredSession) -> None:
        session = watched.session
        names = session_cache_key(token_hash(token)), access_key(session.user_id, session.tenant_id)
        with self._change_notifier.subscribe(*names) as news:
            while True:
                news.clear()
                try:
                    self._note(token, watched, await self._sessions.look_up(token, request_id=uuid4().hex))
                except DomainError:
                    pass  # not known: the session lasts until its expiry, or a check knows better
                except Exception as error:
                    log.error("a session could not be read", exc_info=error)
                if watched.session.expires_at <= utc_now():
                    self._note(token, watched, None)
                if self._watched.get(token) is not watched:
                    return
                await wait_for_event(news, max(0.0, (watched.session.expires_at - utc_now()).total_seconds()))

    async def _check_regularly(self) -> None:
        while True:
            await asyncio.sleep(self._check_seconds * random.uniform(0.8, 1))  # noqa: S311 - jitter, not a secret
            watched = list(self._watched.items())
            for start in range(0, len(watched), MAX_SESSION_LOOKUPS):
                try:
                    await self._check(watched[start : start + MAX_SESSION_LOOKUPS])
                except DomainError as error:
                    log.warning("sessions could not be read", error=repr(error))
                except Exception as error:
                    log.error("sessions could not be checked", exc_info=error)

    async def _check(self, some: list[tuple[str, _MonitoredSession]]) -> None:
        found = await self._sessions.look_up_together([token for token, _ in some], request_id=uuid4().hex)
        for token, watched in some:
            self._note(token, watched, found.get(token))

    def _note(self, token: str, watched: _MonitoredSession, session: Session | None) -> None:
        """Take what was read just now as the session; end what was started with it if it is not what it was."""
        if self._watched.get(token) is not watched:
            return
        if session is not None and principal(session) == principal(watched.session):
            watched.session = session
            return
        del self._watched[token]
        watched.notify()
        self._end_watch(watched)

    def _end_watch(self, watched: _MonitoredSession) -> None:
        if watched.task is not None and watched.task is not asyncio.current_task():
            self._tasks.cancel(watched.task)


class SessionBinding:
    """Ends one stream, or one connection, with the session that it was started with.

    A stream that follows the switch which ended its session receives the last state of that switch first, and continues
    if the switch was undone. ``end`` ends the stream, ``start`` starts a task for it.
    """

    def __init__(
        self,
        watch: SessionMonitor,
        context: Context,
        end: Callable[[], Coroutine[object, object, None]],
        start: Callable[[Coroutine[object, object, None]], None],
    ) -> None:
        self._watch = watch
        self._context = context
        self._end = end
        self._start = start
        self._stay = ExitStack()
        self._is_closed = False
        self.session: Session | None = None
        """None while it is bound to no session: there is none, or it is not known yet."""
        self.has_ended = False

    def bind(self, token: str, session: Session) -> None:
        """Bind it to the session that the token opens, in place of the one before."""
        self._stay.close()
        if not self._is_closed:
            self.session, self.has_ended = session, False
            self._stay.enter_context(self._watch.staying(token, session, partial(self._over, token)))

    def close(self) -> None:
        """The stream has ended by itself."""
        self._is_closed = True
        self._stay.close()

    def _over(self, token: str, ended: Session) -> None:
        self.has_ended = True
        self._start(self._end_with_session(token, ended))

    async def _end_with_session(self, token: str, ended: Session) -> None:
        has_waited = await self._context.following.last_word(self._context.previous_session)
        if self._is_closed:
            return
        if has_waited and await self._watch.is_back(token, ended):
            self.bind(token, ended)
        else:
            await self._end()


class _MonitoredSession:
    """A session as it was when it was last read, and the callbacks of what was started with it."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.callbacks: set[Callable[[Session], None]] = set()
        self.task: asyncio.Task[None] | None = None

    def notify(self) -> None:
        for over in tuple(self.callbacks):
            over(self.session)


def principal(session: Session) -> tuple[object, ...]:
    """What a session grants: whose it is, in which tenant, and in which role."""
    return session.id, session.user_id, session.tenant_id, session.role, session.permissions


def grant(session: Session) -> tuple[object, ...]:
    """The same without the session itself: another session of the same user in the same tenant grants the same."""
    return principal(session)[1:]
