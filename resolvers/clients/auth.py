"""The auth service as the edge calls it: credentials and sessions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pydantic import TypeAdapter

from contracts.auth import (
    Credentials,
    ReplacedSession,
    Session,
    SessionLookup,
    SessionLookups,
    SessionMatch,
    SessionRef,
    VerifiedCredentials,
)
from contracts.errors import SessionEnded
from contracts.service_tokens import Caller
from infrastructure.caching.batching import Batching
from resolvers.clients.base import ServiceClient

_MAX_CONCURRENT_LOOKUPS = 4
_MAX_LOOKUPS = 100

_VERIFIED = TypeAdapter(VerifiedCredentials)
_SESSION = TypeAdapter(Session)
_FOUND = TypeAdapter(tuple[SessionMatch, ...])
_HANDED_OVER = TypeAdapter(ReplacedSession)
_SESSIONS = TypeAdapter(tuple[Session, ...])
_NOTHING = TypeAdapter(None)


class AuthClient:
    def __init__(self, calls: ServiceClient) -> None:
        self._calls = calls
        self._lookups: Batching[Session] = Batching(
            self._current_sessions, max_batch_size=_MAX_LOOKUPS, max_concurrent=_MAX_CONCURRENT_LOOKUPS
        )
        self._request_ids: dict[str, str] = {}

    async def verify_credentials(self, caller: Caller, credentials: Credentials) -> VerifiedCredentials:
        """A one-time reference that a login redeems; InvalidCredentials or RateLimited."""
        body = json.dumps({"email": credentials.email, "password": credentials.password.get_secret_value()})
        return await self._calls.call("verify_credentials", caller, body, _VERIFIED)

    async def current_session(self, caller: Caller, token_hash: str) -> Session:
        """The session that the token opens; SessionEnded where it opens none.

        Those that are asked for at one moment are looked up together, and for no caller by a call that began before.
        """
        self._request_ids.setdefault(token_hash, caller.request_id)
        try:
            session = await self._lookups.load(token_hash)
        finally:
            self._request_ids.pop(token_hash, None)  # its batch has not begun if the caller leaves before
        if session is None:
            raise SessionEnded()
        return session

    async def current_sessions(self, caller: Caller, token_hashes: Sequence[str]) -> Mapping[str, Session]:
        """The sessions that the tokens open, by hash, without those that open none; at most ``MOST_LOOKUPS``.

        In a call of its own, so that it does not delay lookups of single sessions.
        """
        return await self._ask_for(caller, token_hashes)

    async def handed_over_session(self, caller: Caller, token_hash: str) -> ReplacedSession:
        """The session that the token opened until a switch of tenant ended it; SessionEnded for any other."""
        body = SessionLookup(token_hash=token_hash).model_dump_json()
        return await self._calls.call("get_handed_over_session", caller, body, _HANDED_OVER)

    async def sessions(self, caller: Caller) -> tuple[Session, ...]:
        """The caller's active sessions in all tenants, newest first."""
        return await self._calls.call("list_sessions", caller, b"{}", _SESSIONS)

    async def revoke_session(self, caller: Caller, session_id: str) -> None:
        """SessionNotFound where the caller has no such session."""
        await self._calls.call("revoke_session", caller, SessionRef(session_id=session_id).model_dump_json(), _NOTHING)

    async def end_session(self, caller: Caller, session_id: str) -> None:
        """End the caller's own session; harmless where it has ended."""
        await self._calls.call("end_session", caller, SessionRef(session_id=session_id).model_dump_json(), _NOTHING)

    async def _current_sessions(self, token_hashes: Sequence[str]) -> Mapping[str, Session]:
        request_ids = [self._request_ids.pop(each, "") for each in token_hashes]
        return await self._ask_for(Caller(request_id=request_ids[0]), token_hashes)

    async def _ask_for(self, caller: Caller, token_hashes: Sequence[str]) -> Mapping[str, Session]:
        if len(token_hashes) == 1:
            body = SessionLookup(token_hash=token_hashes[0]).model_dump_json()
            try:
                return {token_hashes[0]: await self._calls.call("get_current_session", caller, body, _SESSION)}
            except SessionEnded:
                return {}
        body = SessionLookups(token_hashes=tuple(token_hashes)).model_dump_json()
        found = await self._calls.call("get_current_sessions", caller, body, _FOUND)
        return {each.token_hash: each.session for each in found}
