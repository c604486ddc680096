"""The types of a user onboarding: input, operation and payload."""

from __future__ import annotations

from collections.abc import Awaitable

import strawberry
from strawberry import UNSET

from resolvers.operations import fields
from schema.descriptions import IDEMPOTENCY_KEY, RESULT, STARTED_OPERATION, WAIT_SECONDS
from schema.fields import Info, field
from schema.types.operations import Operation, OperationParent
from schema.types.users import User
from schema.types.workspaces import Workspace


@strawberry.input(description="Input of onboardUser.")
class OnboardUserInput:
    email: str = strawberry.field(description="E-mail address of the new user, to which a welcome e-mail is sent.")
    name: str = strawberry.field(description="Display name of the new user.")
    password: str = strawberry.field(description="8 to 256 characters of any kind.")
    role: str = strawberry.field(default="member", description="Role of the new user in the current tenant.")
    mfa_enabled: bool = strawberry.field(default=False, description="Whether each login requires a second factor.")
    idempotency_key: str | None = strawberry.field(default=UNSET, description=IDEMPOTENCY_KEY)
    wait_seconds: float | None = strawberry.field(default=0, description=WAIT_SECONDS)


@strawberry.type(description="Result of a user onboarding.")
class UserOnboardingResult:
    user: User = strawberry.field(description="The new user.")
    workspace: Workspace = strawberry.field(description="The workspace of the new user.")
    welcome_email_sent: bool = strawberry.field(description="True if the mail server accepted the welcome e-mail.")


@strawberry.type(description="Creation of a user who is a member of the current tenant and has a workspace there.")
class UserOnboarding(Operation):
    @field(UserOnboardingResult | None, RESULT)
    @staticmethod
    def result(operation: OperationParent, info: Info) -> Awaitable[fields.OnboardingOutcome | None] | None:
        return fields.onboarding_outcome(info.context, operation) if operation.state.result else None


@strawberry.type(
    description="totpUri is the otpauth:// URI with which the user enrolls an authenticator app. It is set if "
    "mfaEnabled was requested, and repeated only for the same idempotencyKey."
)
class OnboardUserPayload:
    operation: UserOnboarding = strawberry.field(description=STARTED_OPERATION)
    totp_uri: str | None = strawberry.field(description="The otpauth:// URI. Null without mfaEnabled.")
