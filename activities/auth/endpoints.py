"""HTTP endpoints of the auth service, for requests that need no workflow."""

from __future__ import annotations

from starlette.routing import Route

from activities.auth.credentials import CredentialsService
from activities.auth.sessions import SessionsService
from activities.http import EmptyBody, endpoint, user_of
from contracts.auth import (
    Credentials,
    PermissionCheck,
    ReplacedSession,
    Session,
    SessionLookup,
    SessionLookups,
    SessionMatch,
    SessionRef,
    VerifiedCredentials,
)
from contracts.callers import Caller
from infrastructure.observability.audit import AuditEvent
from infrastructure.signing.service_tokens import ServiceTokenSigner


def routes(sessions: SessionsService, credentials: CredentialsService, signer: ServiceTokenSigner) -> list[Route]:
    async def verify_credentials(caller: Caller, entered: Credentials) -> VerifiedCredentials:
        return await credentials.verify_credentials(entered, client=caller.client)

    async def get_current_session(_: Caller, lookup: SessionLookup) -> Session:
        return await sessions.get_current_session(lookup)

    async def get_current_sessions(_: Caller, lookups: SessionLookups) -> list[SessionMatch]:
        return await sessions.get_current_sessions(lookups)

    async def get_replaced_session(_: Caller, lookup: SessionLookup) -> ReplacedSession:
        return await sessions.get_replaced_session(lookup)

    async def list_sessions(caller: Caller, _: EmptyBody) -> list[Session]:
        return await sessions.list_sessions(user_of(caller))

    async def end_session(caller: Caller, session: SessionRef) -> None:
        await sessions.end_session(user_of(caller), session.session_id)

    async def revoke_session(caller: Caller, session: SessionRef) -> None:
        await sessions.end_session(user_of(caller), session.session_id, by=AuditEvent.SESSION_REVOKED)

    async def check_permissions(caller: Caller, check: PermissionCheck) -> Session:
        return await sessions.check_permissions(check, user_id=user_of(caller))

    return [
        endpoint("/auth/verify_credentials", signer, Credentials, verify_credentials),
        endpoint("/auth/get_current_session", signer, SessionLookup, get_current_session),
        endpoint("/auth/get_current_sessions", signer, SessionLookups, get_current_sessions),
        endpoint("/auth/get_replaced_session", signer, SessionLookup, get_replaced_session),
        endpoint("/auth/list_sessions", signer, EmptyBody, list_sessions),
        endpoint("/auth/revoke_session", signer, SessionRef, revoke_session),
        endpoint("/auth/end_session", signer, SessionRef, end_session),
        endpoint("/auth/check_permissions", signer, PermissionCheck, check_permissions),
    ]
