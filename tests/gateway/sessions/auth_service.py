"""A fake auth service whose sessions a test ends, restores or makes unavailable."""

from __future__ import annotations

import asyncio
from typing import Any

from activities.auth.revocations import CacheRevocationPublisher
from contracts.auth import ReplacedSession, Session
from contracts.callers import Caller
from contracts.errors import ServiceUnavailable, SessionEnded
from resolvers.tokens import token_hash
from tests.gateway.fakes import TOKEN, FakeServices, session


class AuthService:
    """A fake auth service with its sessions by token.

    ``revocations`` publishes the end of a session as the real service does. While ``is_unavailable`` is set, every
    lookup fails; ``unavailable_tokens`` does the same for single tokens. ``ends_when_found`` ends each session directly
    after its lookup.
    """

    def __init__(self, services: FakeServices, revocations: CacheRevocationPublisher) -> None:
        self.sessions: dict[str, Session] = {TOKEN: session()}
        self.revocations = revocations
        self.is_unavailable = False
        self.unavailable_tokens: set[str] = set()
        self.ends_when_found = False
        self.ends_when_found_by = ""
        """Id of the tenant switch that ends each session directly after its lookup."""
        self.delay = self.handed_over_delay = 0.0
        self._handed_over: dict[str, ReplacedSession] = {}
        services.handlers["auth/get_current_session"] = self._find
        services.handlers["auth/get_replaced_session"] = self._find_handed_over

    async def _find(self, caller: Caller, body: dict[str, Any]) -> Session:
        await asyncio.sleep(self.delay)
        if self.is_unavailable or body["token_hash"] in map(token_hash, self.unavailable_tokens):
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
        """End the session; ``by`` is the id of the tenant switch that replaces it."""
        ended = self.sessions.pop(token)
        if by is not None:
            self._handed_over[token_hash(token)] = ReplacedSession(session=ended, ended_by_step=f"{by}:replace_session")
        await self.revocations.publish(token_hash(token))

    async def restore(self, token: str, restored: Session) -> None:
        """Restore an ended session and retract its revocation."""
        self.sessions[token] = restored
        await self.revocations.retract(token_hash(token))
