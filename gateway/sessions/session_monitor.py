"""The session monitor: ends streams and websockets when their session ends or its principal changes."""

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
    """Finds sessions, and watches the sessions of open websockets and streams.

    A watched session is read again after each change notification. In addition all watched sessions are read from the
    auth service every ``check_interval_seconds``, in one call, so that a change is noticed even if its notification is
    lost. While the auth service is unavailable, sessions end only by their expiry.
    """

    def __init__(
        self, sessions: SessionCache, change_notifier: ChangeNotifier, *, check_interval_seconds: float
    ) -> None:
        self._sessions = sessions
        self._change_notifier = change_notifier
        self._check_interval_seconds = check_interval_seconds
        self._watched: dict[str, _MonitoredSession] = {}
        self._tasks = BackgroundTasks()

    async def __aenter__(self) -> Self:
        self._tasks.supervise(self._check_periodically, name="check watched sessions")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._tasks.aclose()
        self._watched.clear()

    async def find(self, token: str, *, request_id: str) -> Session | None:
        """Return the session of the token; None if the token has no valid session.

        Raises:
            DomainError: the session cannot be read.
        """
        return await self._sessions.find(token, request_id=request_id)

    @contextmanager
    def watch(self, token: str, session: Session, on_end: Callable[[Session], None]) -> Iterator[None]:
        """While the block runs, call ``on_end`` once as soon as the session ends or its principal changes.

        Args:
            session: the session that the caller has read for the token. A change since then calls ``on_end``, too.
        """
        watched = self._watched.get(token)
        if watched is None:
            watched = self._watched[token] = _MonitoredSession(session)
            watched.task = self._tasks.start(self._watch(token, watched), name="watch a session")
        elif principal(watched.session) != principal(session):  # one of the two was read before a change
            watched = _MonitoredSession(session)
            asyncio.get_running_loop().call_soon(watched.notify)
        watched.callbacks.add(on_end)
        try:
            yield
        finally:
            watched.callbacks.discard(on_end)
            if not watched.callbacks and self._watched.get(token) is watched:
                del self._watched[token]
                self._stop_task(watched)

    def cached(self, token: str | None) -> Session | None:
        """Return the watched session of the token; None if it is not watched, whether or not it exists."""
        watched = self._watched.get(token or "")
        return watched.session if watched is not None else None

    async def is_restored(self, token: str, ended: Session) -> bool:
        """Return whether the token has the ended session again, for instance after an undone tenant switch."""
        try:
            session = await self._sessions.find_uncached(token, request_id=uuid4().hex)
        except DomainError:
            return False
        return session is not None and principal(session) == principal(ended)

    async def _watch(self, token: str, watched: _MonitoredSession) -> None:
        session = watched.session
        keys = session_cache_key(token_hash(token)), access_key(session.user_id, session.tenant_id)
        with self._change_notifier.subscribe(*keys) as changed:
            while True:
                changed.clear()
                try:
                    current = await self._sessions.find_uncached(token, request_id=uuid4().hex)
                    self._update(token, watched, current)
                except DomainError:
                    pass  # the session is unknown: it ends at its expiry or by a later check
                except Exception as error:
                    log.error("session_unreadable", exc_info=error)
                if watched.session.expires_at <= utc_now():
                    self._update(token, watched, None)
                if self._watched.get(token) is not watched:
                    return
                await wait_for_event(changed, max(0.0, (watched.session.expires_at - utc_now()).total_seconds()))

    async def _check_periodically(self) -> None:
        while True:
            await asyncio.sleep(self._check_interval_seconds * random.uniform(0.8, 1))  # noqa: S311 - jitter
            watched = list(self._watched.items())
            for start in range(0, len(watched), MAX_SESSION_LOOKUPS):
                try:
                    await self._check(watched[start : start + MAX_SESSION_LOOKUPS])
                except DomainError as error:
                    log.warning("sessions_unreadable", error=repr(error))
                except Exception as error:
                    log.error("session_check_failed", exc_info=error)

    async def _check(self, batch: list[tuple[str, _MonitoredSession]]) -> None:
        found = await self._sessions.find_many_uncached([token for token, _ in batch], request_id=uuid4().hex)
        for token, watched in batch:
            self._update(token, watched, found.get(token))

    def _update(self, token: str, watched: _MonitoredSession, session: Session | None) -> None:
        """Store the session that was read now. Call the callbacks if it has ended or its principal has changed."""
        if self._watched.get(token) is not watched:
            return
        if session is not None and principal(session) == principal(watched.session):
            watched.session = session
            return
        del self._watched[token]
        watched.notify()
        self._stop_task(watched)

    def _stop_task(self, watched: _MonitoredSession) -> None:
        if watched.task is not None and watched.task is not asyncio.current_task():
            self._tasks.cancel(watched.task)


class SessionBinding:
    """Ends one stream or websocket when the session ends that it was started with.

    A tenant switch ends the session that started it. A stream that follows this switch therefore receives the last
    state of the switch first, and continues if the switch was undone.

    Args:
        end: ends the stream or websocket.
        start: runs a coroutine as a background task.
    """

    def __init__(
        self,
        monitor: SessionMonitor,
        context: Context,
        end: Callable[[], Coroutine[object, object, None]],
        start: Callable[[Coroutine[object, object, None]], None],
    ) -> None:
        self._monitor = monitor
        self._context = context
        self._end = end
        self._start = start
        self._session_watch = ExitStack()
        self._is_closed = False
        self.session: Session | None = None
        """The bound session; None if there is none or if it has not been read yet."""
        self.has_ended = False

    def bind(self, token: str, session: Session) -> None:
        """Bind to the session of the token, and release the session that was bound before."""
        self._session_watch.close()
        if not self._is_closed:
            self.session, self.has_ended = session, False
            self._session_watch.enter_context(self._monitor.watch(token, session, partial(self._on_end, token)))

    def close(self) -> None:
        """Release the session: the stream has ended for another reason."""
        self._is_closed = True
        self._session_watch.close()

    def _on_end(self, token: str, ended: Session) -> None:
        self.has_ended = True
        self._start(self._end_with_session(token, ended))

    async def _end_with_session(self, token: str, ended: Session) -> None:
        has_waited = await self._context.subscription.wait_for_final_state(self._context.previous_session)
        if self._is_closed:
            return
        if has_waited and await self._monitor.is_restored(token, ended):
            self.bind(token, ended)
        else:
            await self._end()


class _MonitoredSession:
    """A session as it was last read, the task that watches it, and the callbacks for its end."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.callbacks: set[Callable[[Session], None]] = set()
        self.task: asyncio.Task[None] | None = None

    def notify(self) -> None:
        """Call all callbacks."""
        for on_end in tuple(self.callbacks):
            on_end(self.session)


def principal(session: Session) -> tuple[object, ...]:
    """Return the principal of the session as a comparable value: session id, user, tenant, role and permissions."""
    return session.id, session.user_id, session.tenant_id, session.role, session.permissions


def access_of(session: Session) -> tuple[object, ...]:
    """Return the access that the session grants: its principal without the session id.

    Two sessions of the same user in the same tenant and role grant the same access.
    """
    return principal(session)[1:]
