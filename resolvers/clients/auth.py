"""Client of the auth service: credentials and sessions."""

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
from contracts.callers import Caller
from contracts.errors import SessionEnded
from infrastructure.caching.batching import Batching
from resolvers.clients.base import ServiceClient

_MAX_CONCURRENT_LOOKUPS = 4
_MAX_LOOKUPS = 100

_VERIFIED = TypeAdapter(VerifiedCredentials)
_SESSION = TypeAdapter(Session)
_MATCHES = TypeAdapter(tuple[SessionMatch, ...])
_REPLACED = TypeAdapter(ReplacedSession)
_SESSIONS = TypeAdapter(tuple[Session, ...])
_NONE = TypeAdapter(None)


class AuthClient:
    """Calls the auth service; simultaneous lookups of sessions are batched."""

    def __init__(self, service: ServiceClient) -> None:
        self._service = service
        self._lookups: Batching[Session] = Batching(
            self._current_sessions, max_batch_size=_MAX_LOOKUPS, max_concurrent=_MAX_CONCURRENT_LOOKUPS
        )
        self._request_ids: dict[str, str] = {}

    async def verify_credentials(self, caller: Caller, credentials: Credentials) -> VerifiedCredentials:
        """Return a one-time reference that a login redeems. Raises InvalidCredentials, RateLimited."""
        body = json.dumps({"email": credentials.email, "password": credentials.password.get_secret_value()})
        return await self._service.call("verify_credentials", caller, body, _VERIFIED)

    async def get_current_session(self, caller: Caller, token_hash: str) -> Session:
        """Return the open session of the token. Raises SessionEnded if there is none.

        Simultaneous lookups are sent in one call, which starts after all of them have been requested.
        """
        self._request_ids.setdefault(token_hash, caller.request_id)
        try:
            session = await self._lookups.load(token_hash)
        finally:
            self._request_ids.pop(token_hash, None)  # remains if the caller is cancelled before its batch starts
        if session is None:
            raise SessionEnded()
        return session

    async def get_current_sessions(self, caller: Caller, token_hashes: Sequence[str]) -> Mapping[str, Session]:
        """Return the open sessions of the tokens by token hash, in one separate call; at most 100 hashes.

        Tokens without an open session are missing from the result.
        """
        return await self._find_sessions(caller, token_hashes)

    async def get_replaced_session(self, caller: Caller, token_hash: str) -> ReplacedSession:
        """Return the session of the token that a tenant switch has replaced. Raises SessionEnded for any other."""
        body = SessionLookup(token_hash=token_hash).model_dump_json()
        return await self._service.call("get_replaced_session", caller, body, _REPLACED)

    async def list_sessions(self, caller: Caller) -> tuple[Session, ...]:
        """Return the caller's open sessions in all tenants, newest first."""
        return await self._service.call("list_sessions", caller, b"{}", _SESSIONS)

    async def revoke_session(self, caller: Caller, session_id: str) -> None:
        """End one of the caller's sessions. Raises SessionNotFound."""
        await self._service.call("revoke_session", caller, SessionRef(session_id=session_id).model_dump_json(), _NONE)

    async def end_session(self, caller: Caller, session_id: str) -> None:
        """End the caller's own session; no effect if it has ended already."""
        await self._service.call("end_session", caller, SessionRef(session_id=session_id).model_dump_json(), _NONE)

    async def _current_sessions(self, token_hashes: Sequence[str]) -> Mapping[str, Session]:
        request_ids = [self._request_ids.pop(each, "") for each in token_hashes]
        return await self._find_sessions(Caller(request_id=request_ids[0]), token_hashes)

    async def _find_sessions(self, caller: Caller, token_hashes: Sequence[str]) -> Mapping[str, Session]:
        if len(token_hashes) == 1:
            body = SessionLookup(token_hash=token_hashes[0]).model_dump_json()
            try:
                return {token_hashes[0]: await self._service.call("get_current_session", caller, body, _SESSION)}
            except SessionEnded:
                return {}
        body = SessionLookups(token_hashes=tuple(token_hashes)).model_dump_json()
        found = await self._service.call("get_current_sessions", caller, body, _MATCHES)
        return {each.token_hash: each.session for each in found}
