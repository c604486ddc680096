"""The onboarding operation: its input, its start, and the otpauth URI that enrols an authenticator."""

from __future__ import annotations

from typing import NamedTuple

from pyotp.totp import TOTP

from contracts.auth import Role, grantable_roles
from contracts.errors import RoleTooHigh
from contracts.operations import Operation, OperationKind
from contracts.users import OnboardUserCommand
from contracts.validation import Email, IdempotencyKey, Name, NewPassword, WaitSeconds
from infrastructure.limits.fair_semaphore import Requester
from resolvers.context import Context
from resolvers.expected_tenant import find_repeated_operation
from resolvers.inputs import Input
from resolvers.operations.start_requests import StartOptions

ONBOARD_USERS = "users:onboard"
TOTP_ISSUER = "ADX"
"""Name under which an authenticator app shows the account."""


class OnboardUserInput(Input):
    """Validated input of the mutation ``onboardUser``."""

    email: Email
    name: Name
    password: NewPassword
    role: Role = Role.MEMBER
    mfa_enabled: bool = False
    idempotency_key: IdempotencyKey | None = None
    wait_seconds: WaitSeconds = 0


class Onboarding(NamedTuple):
    """Payload of the mutation; ``totp_uri`` is the otpauth URI that enrols an authenticator, if MFA was requested."""

    operation: Operation
    totp_uri: str | None


async def start(context: Context, input: OnboardUserInput) -> Onboarding:
    """Start the onboarding of a user. The operation checks the permission and the role again when it runs.

    Raises:
        PermissionDenied: the viewer may not onboard users; nothing was hashed or loaded.
        RoleTooHigh: the viewer may not grant this role; nothing was hashed or loaded.
    """
    viewer = await context.require_permission(ONBOARD_USERS)
    if input.role not in grantable_roles(viewer.role):
        raise RoleTooHigh()
    requests, kind = context.backend.onboarding_requests, OperationKind.USER_ONBOARDING
    options = StartOptions(key=input.idempotency_key)
    previous = await find_repeated_operation(
        context, kind, options, lambda ids: requests.fingerprints(ids, input), wait_seconds=input.wait_seconds
    )
    if previous is not None:
        return Onboarding(previous, None)
    request = await requests.start_request(viewer, input, Requester(context.client.digest, viewer.user_id))
    operation = await context.start(request, wait_seconds=input.wait_seconds)
    return Onboarding(operation, _totp_uri(request.command, requests.totp_secret(request, operation)))


def _totp_uri(command: OnboardUserCommand, secret: str | None) -> str | None:
    """Return the otpauth URI of the secret, which an authenticator app scans as a QR code."""
    if secret is None:
        return None
    return TOTP(secret).provisioning_uri(name=command.email, issuer_name=TOTP_ISSUER)
