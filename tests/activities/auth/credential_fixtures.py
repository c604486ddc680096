"""Credentials for tests: one user, Ada, and what she signs in with."""

from activities.auth.credentials import CredentialsService
from contracts.auth import Credentials, NewAuthentication
from contracts.base import new_id
from infrastructure.passwords import Passwords


def credentials(email: str = "ada@example.com", password: str = "correct horse") -> Credentials:
    return Credentials.model_validate({"email": email, "password": password})


async def enrol(service: CredentialsService, passwords: Passwords, *, totp_secret: str | None = None) -> str:
    user_id = new_id("usr")
    await service.set_up_authentication(
        NewAuthentication(
            key="user-onboarding-1:set_up_authentication",
            user_id=user_id,
            email="Ada@Example.com",
            password_hash=await passwords.hash("correct horse"),
            totp_secret=totp_secret,
        )
    )
    return user_id
