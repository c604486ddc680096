"""The types of a login: inputs, operation and payload."""

from __future__ import annotations

from datetime import datetime

import strawberry
from strawberry import ID, UNSET

from contracts import auth
from schema.descriptions import IDEMPOTENCY_KEY, SESSION_TOKEN, STARTED_OPERATION, VIEWER, WAIT_SECONDS
from schema.fields import field
from schema.types.enums import MfaMethod, OperationStatus
from schema.types.operations import Operation, OperationParent
from schema.types.viewer import Viewer


@strawberry.input(description="Input of login.")
class LoginInput:
    email: str = strawberry.field(description="E-mail address of the user.")
    password: str = strawberry.field(description="Password of the user.")
    tenant_id: ID | None = strawberry.field(
        default=UNSET,
        description="Tenant of the new session. If omitted, the tenant of the user's last session.",
    )
    idempotency_key: str | None = strawberry.field(default=UNSET, description=IDEMPOTENCY_KEY)
    wait_seconds: float | None = strawberry.field(default=10, description=WAIT_SECONDS)


@strawberry.input(description="Input of submitMfaCode.")
class SubmitMfaCodeInput:
    operation_id: ID = strawberry.field(description="Id of the login that is WAITING.")
    code: str = strawberry.field(description="Current code of the second factor.")
    wait_seconds: float | None = strawberry.field(default=10, description=WAIT_SECONDS)


@strawberry.type(description="Request for a second factor, to be answered with submitMfaCode.")
class MfaChallenge:
    method: MfaMethod = strawberry.field(description="Type of the second factor.")
    attempts_left: int = strawberry.field(description="Number of codes that may still be submitted.")
    expires_at: datetime = strawberry.field(description="When the login times out.")


@strawberry.type(
    description="A sign-in. A client that knows only the id (and is not the user) can read kind, status, progress, "
    "challenge, error,\nstartedAt, closedAt and cursor, until one hour after it closes. It cannot read anything about "
    "the user or tenant."
)
class Login(Operation):
    @field(MfaChallenge | None, "Set while WAITING.")
    @staticmethod
    def challenge(operation: OperationParent) -> auth.MfaChallenge | None:
        return operation.state.challenge if operation.state.status is OperationStatus.WAITING else None


@strawberry.type(
    description="sessionToken belongs to the session that the operation creates. It is valid once the operation is "
    "COMPLETED, and it is the same for the same\nidempotencyKey, so that a lost response can be repeated. Only a hash "
    "of it is stored. A browser also receives it as a cookie with the first\nresponse that shows the operation as "
    "COMPLETED."
)
class LoginPayload:
    operation: Login = strawberry.field(description=STARTED_OPERATION)
    session_token: str | None = strawberry.field(description=SESSION_TOKEN)
    viewer: Viewer | None = strawberry.field(description=VIEWER)
