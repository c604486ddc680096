"""Sessions for tests: two users, two tenants, and tokens by their text."""

import hashlib

from activities.auth.sessions import SessionsService
from contracts.auth import NewSession, Role, Session, SessionLookup, SignIn
from contracts.base import new_id
from contracts.errors import SessionEnded
from tests.activities.conftest import join

ADA, GRACE = new_id("usr"), new_id("usr")
ACME, GLOBEX = new_id("ten"), new_id("ten")


def hash_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def new_session(token: str, *, user_id: str = ADA, tenant_id: str = ACME, role: Role = Role.ADMIN) -> NewSession:
    return NewSession(
        key=f"{token}:create_session", user_id=user_id, tenant_id=tenant_id, role=role, token_hash=hash_of(token)
    )


async def sign_in(service: SessionsService, token: str, *, user_id: str = ADA, role: Role = Role.ADMIN) -> Session:
    await join(user_id, ACME, role)
    session = await service.create_session(new_session(token, user_id=user_id, role=role))
    await service.record_sign_in(SignIn(key=f"{token}:record_sign_in", session_id=session.id))
    return session


async def opens(service: SessionsService, token: str) -> bool:
    try:
        await service.get_current_session(SessionLookup(token_hash=hash_of(token)))
    except SessionEnded:
        return False
    return True
