"""Onboard a user: what a client sends, how the operation is started, and what enrols an authenticator."""

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

ONBOARD = "users:onboard"
ISSUER = "ADX"
"""Under which name an authenticator app shows the account."""


class OnboardUserInput(Input):
    email: Email
    name: Name
    password: NewPassword
    role: Role = Role.MEMBER
    mfa_enabled: bool = False
    idempotency_key: IdempotencyKey | None = None
    wait_seconds: WaitSeconds = 0


class Onboarding(NamedTuple):
    """``totp_uri``: the otpauth address to enrol with, where MFA was asked for."""

    operation: Operation
    totp_uri: str | None


async def start(context: Context, input: OnboardUserInput) -> Onboarding:
    """Onboard a user. The operation checks the permission and the role again when it runs.

    Raises:
        PermissionDenied: the viewer may not onboard users; nothing has been hashed or loaded.
        RoleTooHigh: the viewer may not grant this role; nothing has been hashed or loaded.
    """
    viewer = await context.require_permission(ONBOARD)
    if input.role not in grantable_roles(viewer.role):
        raise RoleTooHigh()
    requests, kind = context.backend.onboarding_requests, OperationKind.USER_ONBOARDING
    wish = StartOptions(key=input.idempotency_key)
    before = await find_repeated_operation(
        context, kind, wish, lambda ids: requests.asked(ids, input), wait_seconds=input.wait_seconds
    )
    if before is not None:
        return Onboarding(before, None)
    order = await requests.order(viewer, input, Requester(context.client.digest, viewer.user_id))
    operation = await context.start(order, wait_seconds=input.wait_seconds)
    return Onboarding(operation, _totp_uri(order.command, requests.totp_secret(order, operation)))


def _totp_uri(command: OnboardUserCommand, secret: str | None) -> str | None:
    if secret is None:
        return None
    return TOTP(secret).provisioning_uri(name=command.email, issuer_name=ISSUER)
