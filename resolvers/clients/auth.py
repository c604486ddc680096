"""The auth service as the edge calls it: credentials and sessions."""

from __future__ import annotations

import json

from pydantic import TypeAdapter

from contracts.auth import Credentials, HandedOverSession, Session, SessionLookup, SessionRef, VerifiedCredentials
from contracts.calls import Caller
from resolvers.clients.calls import ServiceCalls

_VERIFIED = TypeAdapter(VerifiedCredentials)
_SESSION = TypeAdapter(Session)
_HANDED_OVER = TypeAdapter(HandedOverSession)
_SESSIONS = TypeAdapter(tuple[Session, ...])
_NOTHING = TypeAdapter(None)


class AuthClient:
    def __init__(self, calls: ServiceCalls) -> None:
        self._calls = calls

    async def verify_credentials(self, caller: Caller, credentials: Credentials) -> VerifiedCredentials:
        """A one-time reference that a login redeems; InvalidCredentials or RateLimited."""
        body = json.dumps({"email": credentials.email, "password": credentials.password.get_secret_value()})
        return await self._calls.call("verify_credentials", caller, body, _VERIFIED)

    async def current_session(self, caller: Caller, token_hash: str) -> Session:
        """The session that the token opens; SessionEnded where it opens none."""
        body = SessionLookup(token_hash=token_hash).model_dump_json()
        return await self._calls.call("get_current_session", caller, body, _SESSION)

    async def handed_over_session(self, caller: Caller, token_hash: str) -> HandedOverSession:
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
