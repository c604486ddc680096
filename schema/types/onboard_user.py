"""Onboard a user: what a client sends, and the operation that it starts."""

from __future__ import annotations

from collections.abc import Awaitable

import strawberry
from strawberry import UNSET

from resolvers.operations import fields as details
from schema.fields import Info, field
from schema.types.operations import Operation, OperationParent
from schema.types.users import User
from schema.types.workspaces import Workspace


@strawberry.input
class OnboardUserInput:
    email: str
    name: str
    password: str = strawberry.field(description="8 to 256 characters, of whatever kind.")
    role: str = "member"
    mfa_enabled: bool = False
    idempotency_key: str | None = UNSET
    wait_seconds: float | None = 0


@strawberry.type
class UserOnboardingResult:
    user: User
    workspace: Workspace
    welcome_email_sent: bool


@strawberry.type
class UserOnboarding(Operation):
    @field(UserOnboardingResult | None)
    @staticmethod
    def result(operation: OperationParent, info: Info) -> Awaitable[details.OnboardingOutcome | None] | None:
        return details.onboarding_outcome(info.context, operation) if operation.state.result else None


@strawberry.type(
    description="totpUri is the otpauth:// address to enrol with where mfaEnabled was asked for; "
    "the same again for the same idempotencyKey only."
)
class OnboardUserPayload:
    operation: UserOnboarding
    totp_uri: str | None
