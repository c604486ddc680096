"""Requests to start the onboarding of a user: hash the password and derive the secrets of the new user."""

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
    """Creates requests to start onboardings; one per process. ``keys`` are the secret keys of the gateway."""

    def __init__(self, start_requests: StartRequestFactory, passwords: Passwords, keys: SecretKeys) -> None:
        self._start_requests = start_requests
        self._passwords = passwords
        self._keys = keys
        self._hashing: SingleFlight[str] = SingleFlight()

    async def start_request(
        self, viewer: Session, input: OnboardUserInput, requester: Requester
    ) -> StartRequest[OnboardUser, OnboardUserCommand, UserOnboarded]:
        """Return a request to onboard the user.

        Raises:
            RateLimited: too many passwords wait to be hashed.
        """
        options = StartOptions(key=input.idempotency_key)
        ids = self._start_requests.operation_ids(OperationKind.USER_ONBOARDING, viewer, options)
        secret, id = self._keys.current, ids.current
        password = input.password.get_secret_value()
        digest = password_digest(secret, id, password)
        fingerprint, *former_fingerprints = self.fingerprints(ids, input)
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
        request = self._start_requests.for_viewer(
            viewer, ids, OnboardUser.run, command, fingerprint, former_fingerprints=former_fingerprints
        )
        return request.with_subject(_subject(command))

    def fingerprints(self, ids: OperationIds, input: OnboardUserInput) -> list[JsonValue]:
        """Return the fingerprint of the input for each id; it is compared when an idempotency key is repeated."""
        password = input.password.get_secret_value()
        fields: dict[str, JsonValue] = {
            "email": input.email,
            "name": input.name,
            "role": input.role,
            "mfa": input.mfa_enabled,
        }
        return [
            StartOptions().fingerprint(**fields, password=password_digest(key, id, password))
            for key, id in zip(self._keys.all, ids.all, strict=False)  # without an idempotency key there is only one id
        ]

    def totp_secret(
        self, request: StartRequest[OnboardUser, OnboardUserCommand, UserOnboarded], operation: Operation
    ) -> str | None:
        """Return the TOTP secret that the operation sets up; the operation has one of the ids of the request."""
        if request.command.totp_secret is None:
            return None
        keys = dict(zip(request.ids, self._keys.all, strict=False))
        return totp_secret(keys[operation.id], operation.id)

    def retry_request(
        self, viewer: Session, previous_command: OnboardUserCommand, options: StartOptions
    ) -> StartRequest[OnboardUser, OnboardUserCommand, UserOnboarded]:
        """Return a request to retry an onboarding. The new user keeps the password and the second factor."""
        ids = self._start_requests.operation_ids(OperationKind.USER_ONBOARDING, viewer, options)
        viewer_fields = {"user_id": viewer.user_id, "session_id": viewer.id, "tenant_id": viewer.tenant_id}
        command = previous_command.model_copy(
            update=viewer_fields | {"new_user_id": new_user_id(self._keys.current, ids.current)}
        )
        request = self._start_requests.for_viewer(viewer, ids, OnboardUser.run, command, options.fingerprint())
        return request.with_subject(_subject(command))


def _subject(command: OnboardUserCommand) -> Subject:
    return Subject(label=command.email, target_id=command.new_user_id)
