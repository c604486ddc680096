"""Log a user in: what a client sends, and the operation that it starts."""

from __future__ import annotations

from datetime import datetime

import strawberry
from strawberry import ID, UNSET

from contracts import auth
from schema.fields import field
from schema.types.enums import MfaMethod, OperationStatus
from schema.types.operations import Operation, OperationParent
from schema.types.viewer import Viewer


@strawberry.input
class LoginInput:
    email: str
    password: str
    tenant_id: ID | None = UNSET
    idempotency_key: str | None = UNSET
    wait_seconds: float | None = 10


@strawberry.input
class SubmitMfaCodeInput:
    operation_id: ID
    code: str
    wait_seconds: float | None = 10


@strawberry.type
class MfaChallenge:
    method: MfaMethod
    attempts_left: int
    expires_at: datetime


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
    description="sessionToken is that of the session which the operation makes: worth nothing until the operation is "
    "COMPLETED, and the same again\nfor the same idempotencyKey, so that a lost answer loses nothing. It is "
    "stored nowhere but as a hash. A browser also gets it as a\ncookie, with the answer in which the operation stands "
    "COMPLETED."
)
class LoginPayload:
    operation: Login
    session_token: str | None
    viewer: Viewer | None
