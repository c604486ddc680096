"""Newcomers: their password is hashed here, and what else is secret about them is made here."""

from __future__ import annotations

from pydantic import JsonValue

from contracts.auth import Session
from contracts.operations import OperationKind, UserOnboarded
from contracts.users import OnboardUserCommand
from infrastructure.fair_queue import Requester
from infrastructure.passwords import Passwords
from resolvers.inputs import OnboardUserInput
from resolvers.orders import Orders, Wish
from resolvers.start import Order
from resolvers.together import Together
from resolvers.tokens import new_user_id, password_digest, totp_secret
from workflows.onboard_user import OnboardUser


class Newcomers:
    """One a process. ``secret`` is the edge's key."""

    def __init__(self, orders: Orders, passwords: Passwords, secret: bytes) -> None:
        self._orders = orders
        self._passwords = passwords
        self._secret = secret
        self._hashing: Together[str] = Together()

    async def order(
        self, viewer: Session, input: OnboardUserInput, requester: Requester
    ) -> Order[OnboardUser, OnboardUserCommand, UserOnboarded]:
        """RateLimited where too many passwords wait to be hashed."""
        wish = Wish(key=input.idempotency_key)
        id = self._orders.id(OperationKind.USER_ONBOARDING, viewer, wish)
        password = input.password.get_secret_value()
        digest = password_digest(self._secret, id, password)
        command = OnboardUserCommand(
            user_id=viewer.user_id,
            session_id=viewer.id,
            tenant_id=viewer.tenant_id,
            new_user_id=new_user_id(self._secret, id),
            email=input.email,
            name=input.name,
            role=input.role,
            password_hash=await self._hashing.do(digest, lambda: self._passwords.hash(password, requester)),
            totp_secret=totp_secret(self._secret, id) if input.mfa_enabled else None,
        )
        return self._orders.of_viewer(viewer, id, OnboardUser.run, command, self.asked(id, input))

    def asked(self, id: str, input: OnboardUserInput) -> JsonValue:
        """What is compared where the same key comes again, for the operation of this id."""
        digest = password_digest(self._secret, id, input.password.get_secret_value())
        return Wish().asked(email=input.email, name=input.name, role=input.role, mfa=input.mfa_enabled, password=digest)

    def order_again(
        self, viewer: Session, before: OnboardUserCommand, wish: Wish
    ) -> Order[OnboardUser, OnboardUserCommand, UserOnboarded]:
        """The newcomer's password and second factor stay: whoever was told of them need not be told again."""
        id = self._orders.id(OperationKind.USER_ONBOARDING, viewer, wish)
        mine = {"user_id": viewer.user_id, "session_id": viewer.id, "tenant_id": viewer.tenant_id}
        command = before.model_copy(update=mine | {"new_user_id": new_user_id(self._secret, id)})
        return self._orders.of_viewer(viewer, id, OnboardUser.run, command, wish.asked())
