"""Activities of the auth service: sign-in, sessions and permissions. The services document what they raise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio import activity

from contracts.auth import (
    Identity,
    NewAuthentication,
    NewSession,
    PermissionCheck,
    Redemption,
    Session,
    SessionReplacement,
    SignIn,
    TotpAttempt,
)

if TYPE_CHECKING:
    from activities.auth.credentials import CredentialsService
    from activities.auth.sessions import SessionsService


class Auth:
    """Activities that workflows call on the task queue ``auth``."""

    def __init__(self, sessions: SessionsService, credentials: CredentialsService) -> None:
        self._sessions = sessions
        self._credentials = credentials

    @activity.defn
    async def verify_credentials(self, redemption: Redemption) -> Identity:
        return await self._credentials.redeem_reference(redemption)

    @activity.defn
    async def check_totp(self, attempt: TotpAttempt) -> None:
        await self._credentials.check_totp(attempt)

    @activity.defn
    async def create_session(self, new: NewSession) -> Session:
        return await self._sessions.create_session(new)

    @activity.defn
    async def undo_create_session(self, key: str) -> None:
        await self._sessions.undo_create_session(key)

    @activity.defn
    async def record_sign_in(self, sign_in: SignIn) -> None:
        await self._sessions.record_sign_in(sign_in)

    @activity.defn
    async def undo_record_sign_in(self, key: str) -> None:
        await self._sessions.undo_record_sign_in(key)

    @activity.defn
    async def get_session(self, session_id: str) -> Session:
        return await self._sessions.get_session(session_id, operation_id=activity.info().workflow_id)

    @activity.defn
    async def replace_session(self, replacement: SessionReplacement) -> None:
        await self._sessions.replace_session(replacement)

    @activity.defn
    async def undo_replace_session(self, key: str) -> None:
        await self._sessions.undo_replace_session(key)

    @activity.defn
    async def check_permissions(self, check: PermissionCheck) -> Session:
        return await self._sessions.check_permissions(check)

    @activity.defn
    async def set_up_authentication(self, new: NewAuthentication) -> None:
        await self._credentials.set_up_authentication(new)

    @activity.defn
    async def undo_set_up_authentication(self, key: str) -> None:
        await self._credentials.undo_set_up_authentication(key)
