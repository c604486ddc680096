"""Requests to start the onboarding of a user: hash the password, and derive the secrets of the new user."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import JsonValue

from contracts.auth import Session
from contracts.operation_records import Subject
from contracts.operations import Operation, OperationKind, UserOnboarded
from contracts.users import OnboardUserCommand
from infrastructure.caching.single_flight import SingleFlight
from infrastructure.limits.fair_semaphore import Requester
from infrastructure.passwords import Passwords
from infrastructure.signing.secret_keys import SecretKeys
from resolvers.operations.start import StartRequest
from resolvers.operations.start_requests import OperationIds, StartOptions, StartRequestFactory
from resolvers.tokens import new_user_id, password_digest, totp_secret
from workflows.onboard_user import OnboardUser

if TYPE_CHECKING:
    from resolvers.operations.onboard_user import OnboardUserInput


class OnboardingRequestFactory:
    """Makes requests to start onboardings; one per process. ``keys`` are the secret keys of the gateway."""

    def __init__(self, orders: StartRequestFactory, passwords: Passwords, keys: SecretKeys) -> None:
        self._orders = orders
        self._passwords = passwords
        self._keys = keys
        self._hashing: SingleFlight[str] = SingleFlight()

    async def order(
        self, viewer: Session, input: OnboardUserInput, requester: Requester
    ) -> StartRequest[OnboardUser, OnboardUserCommand, UserOnboarded]:
        """Return a request to onboard the user. Raises RateLimited if too many passwords wait to be hashed."""
        wish = StartOptions(key=input.idempotency_key)
        ids = self._orders.id(OperationKind.USER_ONBOARDING, viewer, wish)
        secret, id = self._keys.current, ids.current
        password = input.password.get_secret_value()
        digest = password_digest(secret, id, password)
        asked, *formerly_asked = self.asked(ids, input)
        command = OnboardUserCommand(
            user_id=viewer.user_id,
            session_id=viewer.id,
            tenant_id=viewer.tenant_id,
            new_user_id=new_user_id(secret, id),
            email=input.email,
            name=input.name,
            role=input.role,
            password_hash=await self._hashing.run(digest, lambda: self._passwords.hash(password, requester)),
            totp_secret=totp_secret(secret, id) if input.mfa_enabled else None,
        )
        order = self._orders.of_viewer(viewer, ids, OnboardUser.run, command, asked, formerly_asked=formerly_asked)
        return order.concerning(_subject(command))

    def asked(self, ids: OperationIds, input: OnboardUserInput) -> list[JsonValue]:
        """Return the fingerprint of the request for each of the ids, compared when an idempotency key repeats."""
        password = input.password.get_secret_value()
        facts: dict[str, JsonValue] = {
            "email": input.email,
            "name": input.name,
            "role": input.role,
            "mfa": input.mfa_enabled,
        }
        return [
            StartOptions().asked(**facts, password=password_digest(key, id, password))
            for key, id in zip(self._keys.all, ids.all, strict=False)  # one alone without an idempotency key
        ]

    def totp_secret(
        self, order: StartRequest[OnboardUser, OnboardUserCommand, UserOnboarded], operation: Operation
    ) -> str | None:
        """Return the TOTP secret that this operation, which has one of the ids of the order, sets up."""
        if order.command.totp_secret is None:
            return None
        keys = dict(zip(order.ids, self._keys.all, strict=False))
        return totp_secret(keys[operation.id], operation.id)

    def order_again(
        self, viewer: Session, before: OnboardUserCommand, wish: StartOptions
    ) -> StartRequest[OnboardUser, OnboardUserCommand, UserOnboarded]:
        """Return a request to retry an onboarding. The new user keeps the password and the second factor."""
        ids = self._orders.id(OperationKind.USER_ONBOARDING, viewer, wish)
        mine = {"user_id": viewer.user_id, "session_id": viewer.id, "tenant_id": viewer.tenant_id}
        command = before.model_copy(update=mine | {"new_user_id": new_user_id(self._keys.current, ids.current)})
        order = self._orders.of_viewer(viewer, ids, OnboardUser.run, command, wish.asked())
        return order.concerning(_subject(command))


def _subject(command: OnboardUserCommand) -> Subject:
    return Subject(label=command.email, target_id=command.new_user_id)
