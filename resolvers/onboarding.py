"""Onboarding somebody: the operation, and what the newcomer needs to enrol an authenticator."""

from __future__ import annotations

from typing import NamedTuple

from pyotp.totp import TOTP

from contracts.operations import Operation
from contracts.users import OnboardUserCommand
from resolvers.context import Context
from resolvers.inputs import OnboardUserInput

ISSUER = "ADX"
"""Under which name an authenticator app shows the account."""


class Onboarding(NamedTuple):
    """``totp_uri``: the otpauth address to enrol with, where MFA was asked for."""

    operation: Operation
    totp_uri: str | None


async def onboard_user(context: Context, input: OnboardUserInput) -> Onboarding:
    """Whether the viewer may onboard anybody is the operation's first question: it fails with PERMISSION_DENIED."""
    order = await context.backend.newcomers.order(await context.signed_in(), input)
    operation = await context.start(order, wait_seconds=input.wait_seconds)
    return Onboarding(operation, _totp_uri(order.command))


def _totp_uri(command: OnboardUserCommand) -> str | None:
    if command.totp_secret is None:
        return None
    return TOTP(command.totp_secret).provisioning_uri(name=command.email, issuer_name=ISSUER)
