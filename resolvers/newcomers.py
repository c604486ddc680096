"""Newcomers: their password is hashed here, and what else is secret about them is made here."""

from __future__ import annotations

from contracts.auth import Session
from contracts.operations import OperationKind, UserOnboarded
from contracts.passwords import Passwords
from contracts.users import OnboardUserCommand
from resolvers.inputs import OnboardUserInput
from resolvers.orders import Newcomer, Orders, Wish
from resolvers.start import Order
from resolvers.together import Together
from resolvers.tokens import password_digest, totp_secret
from workflows.onboard_user import OnboardUser


class Newcomers:
    """One a process. ``secret`` is the edge's key."""

    def __init__(self, orders: Orders, passwords: Passwords, secret: bytes) -> None:
        self._orders = orders
        self._passwords = passwords
        self._secret = secret
        self._hashing: Together[str] = Together()

    async def order(
        self, viewer: Session, input: OnboardUserInput
    ) -> Order[OnboardUser, OnboardUserCommand, UserOnboarded]:
        """RateLimited where too many passwords wait to be hashed."""
        wish = Wish(key=input.idempotency_key)
        id = self._orders.id(OperationKind.USER_ONBOARDING, viewer, wish)
        password = input.password.get_secret_value()
        digest = password_digest(self._secret, id, password)
        newcomer = Newcomer(
            email=input.email,
            name=input.name,
            role=input.role,
            password_hash=await self._hashing.do(digest, lambda: self._passwords.hash(password)),
            totp_secret=totp_secret(self._secret, id) if input.mfa_enabled else None,
        )
        asked = wish.asked(email=input.email, name=input.name, role=input.role, mfa=input.mfa_enabled, password=digest)
        return self._orders.onboard_user(id, viewer, newcomer, asked)
