"""An auth service whose sessions a test ends, restores and makes unavailable."""

from __future__ import annotations

import asyncio
from typing import Any

from activities.auth.revocations import CacheRevocationPublisher
from contracts.auth import ReplacedSession, Session
from contracts.callers import Caller
from contracts.errors import ServiceUnavailable, SessionEnded
from resolvers.tokens import token_hash
from tests.gateway.fakes import TOKEN, Services, session


class AuthService:
    """The sessions by token. ``revocations`` publishes the end of a session as the service does."""

    def __init__(self, services: Services, revocations: CacheRevocationPublisher) -> None:
        self.sessions: dict[str, Session] = {TOKEN: session()}
        self.revocations = revocations
        self.is_away = False
        self.is_away_for: set[str] = set()
        self.ends_when_found = False
        self.ends_when_found_by = ""
        """The switch that ends each session as soon as it was found."""
        self.delay = self.handed_over_delay = 0.0
        self._handed_over: dict[str, ReplacedSession] = {}
        services.handlers["auth/get_current_session"] = self._find
        services.handlers["auth/get_replaced_session"] = self._find_handed_over

    async def _find(self, caller: Caller, body: dict[str, Any]) -> Session:
        await asyncio.sleep(self.delay)
        if self.is_away or body["token_hash"] in map(token_hash, self.is_away_for):
            raise ServiceUnavailable(service="auth")
        for token, found in self.sessions.items():
            if body["token_hash"] == token_hash(token):
                if self.ends_when_found:
                    del self.sessions[token]
                elif self.ends_when_found_by:
                    await self.end(token, by=self.ends_when_found_by)
                return found
        raise SessionEnded()

    async def _find_handed_over(self, caller: Caller, body: dict[str, Any]) -> ReplacedSession:
        await asyncio.sleep(self.handed_over_delay)
        if body["token_hash"] not in self._handed_over:
            raise SessionEnded()
        return self._handed_over[body["token_hash"]]

    async def end(self, token: str = TOKEN, *, by: str | None = None) -> None:
        """End the session. ``by`` is the switch that replaces it."""
        ended = self.sessions.pop(token)
        if by is not None:
            self._handed_over[token_hash(token)] = ReplacedSession(session=ended, ended_by_step=f"{by}:replace_session")
        await self.revocations.publish(token_hash(token))

    async def restore(self, token: str, again: Session) -> None:
        self.sessions[token] = again
        await self.revocations.retract(token_hash(token))
