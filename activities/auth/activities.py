"""The steps that a workflow may ask of signing in."""

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
    SessionHandover,
    SignIn,
    TotpAttempt,
)

if TYPE_CHECKING:
    from activities.auth.credentials import CredentialsService
    from activities.auth.sessions import SessionsService


class Auth:
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
    async def rollback_session_creation(self, key: str) -> None:
        await self._sessions.rollback_session_creation(key)

    @activity.defn
    async def record_sign_in(self, sign_in: SignIn) -> None:
        await self._sessions.record_sign_in(sign_in)

    @activity.defn
    async def forget_sign_in(self, key: str) -> None:
        await self._sessions.forget_sign_in(key)

    @activity.defn
    async def get_session(self, session_id: str) -> Session:
        return await self._sessions.get_session(session_id, operation_id=activity.info().workflow_id)

    @activity.defn
    async def hand_over_session(self, handover: SessionHandover) -> None:
        await self._sessions.hand_over_session(handover)

    @activity.defn
    async def restore_previous_session(self, key: str) -> None:
        await self._sessions.restore_previous_session(key)

    @activity.defn
    async def check_permissions(self, check: PermissionCheck) -> Session:
        return await self._sessions.check_permissions(check)

    @activity.defn
    async def set_up_authentication(self, new: NewAuthentication) -> None:
        await self._credentials.set_up_authentication(new)

    @activity.defn
    async def clean_up_authentication(self, key: str) -> None:
        await self._credentials.clean_up_authentication(key)
