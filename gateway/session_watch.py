"""Seeing that a session is over while somebody stays with it: one look for all sockets and streams of one session."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self
from uuid import uuid4

from contracts.auth import Session, hot_session_key
from contracts.base import utc_now
from contracts.errors import DomainError
from contracts.wakeups import Wakeups, woken
from gateway.sessions import HotSessions
from resolvers.tokens import token_hash


class SessionWatch:
    """Finds sessions, and looks at those that somebody stays with: at each wake-up, and every ``check_seconds``.

    The regular look asks the auth service itself, so that a revocation is seen where no wake-up reaches this process.
    """

    def __init__(self, sessions: HotSessions, wakeups: Wakeups, *, check_seconds: float) -> None:
        self._sessions = sessions
        self._wakeups = wakeups
        self._check_seconds = check_seconds
        self._watched: dict[str, _Watched] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for watched in list(self._watched.values()):
            watched.cancel()
        self._watched.clear()

    async def find(self, token: str, *, request_id: str) -> Session | None:
        """The session that the token opens now; None where it opens none."""
        session = await self._sessions.find(token, request_id=request_id)
        watched = self._watched.get(token)
        if watched is not None and watched.session is None and session is not None:
            watched.session = session
            watched.news.set()  # it may have ended since it was read
        return session

    @contextmanager
    def staying(self, token: str | None, over: Callable[[Session], None]) -> Iterator[None]:
        """While the block runs ``over`` is called, once, with the session as soon as it is over or is not what it was.

        A token that opens nothing yet may be that of a login under way: there is nothing to be over until it does.
        """
        if token is None:
            yield
            return
        watched = self._watched.get(token)
        if watched is None:
            watched = self._watched[token] = _Watched()
            watched.task = asyncio.create_task(self._watch(token, watched), name="watch a session")
            watched.task.add_done_callback(lambda _: watched.looked.set())  # who waits for a look waits no longer
        watched.who.add(over)
        try:
            yield
        finally:
            watched.who.discard(over)
            if not watched.who and self._watched.get(token) is watched:
                del self._watched[token]
                watched.cancel()

    def known(self, token: str | None) -> Session | None:
        """What the token opened when somebody who stays with it last looked."""
        watched = self._watched.get(token or "")
        return watched.session if watched is not None else None

    async def seen(self, token: str | None) -> Session | None:
        """The same, once somebody has looked."""
        watched = self._watched.get(token or "")
        if watched is None:
            return None
        await watched.looked.wait()
        return watched.session

    async def is_back(self, token: str, ended: Session) -> bool:
        """Whether it is again what it was before it ended, as after a switch that was undone."""
        try:
            session = await self._sessions.look_up(token, request_id=uuid4().hex)
        except DomainError:
            return False
        return session is not None and standing(session) == standing(ended)

    async def _watch(self, token: str, watched: _Watched) -> None:
        with self._wakeups.hearing(hot_session_key(token_hash(token))) as news:
            watched.news = news
            look = self._sessions.find
            while True:
                news.clear()
                known = watched.session
                try:
                    session = await look(token, request_id=uuid4().hex)
                except DomainError:  # the auth service does not answer: that ends no session before its time
                    session = known if known is not None and known.expires_at > utc_now() else None
                if known is not None and (session is None or standing(session) != standing(known)):
                    break
                watched.session = session or watched.session
                watched.looked.set()
                was_told = await woken(news, self._pause(session))
                look = self._sessions.find if was_told else self._sessions.look_up
        del self._watched[token]
        for over in tuple(watched.who):
            over(known)

    def _pause(self, session: Session | None) -> float:
        """Seconds to the next look: to its end at most, and not in step with other processes."""
        seconds = self._check_seconds * random.uniform(0.8, 1)  # noqa: S311 - jitter, not a secret
        if session is None:
            return seconds
        return max(0.0, min(seconds, (session.expires_at - utc_now()).total_seconds()))


class _Watched:
    """``session``: what the token opened when somebody last looked, once it has opened something."""

    def __init__(self) -> None:
        self.session: Session | None = None
        self.who: set[Callable[[Session], None]] = set()
        self.news = asyncio.Event()
        self.looked = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()


def standing(session: Session) -> tuple[object, ...]:
    """Who its holder is, where, and as what."""
    return session.user_id, session.tenant_id, session.role, session.permissions
