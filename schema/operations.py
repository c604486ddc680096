"""Operations: the interface that all kinds share, and each kind."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import datetime
from typing import Annotated, TypeAlias

import strawberry
from strawberry import Parent

from contracts import auth, operations, tenants, users
from resolvers import details, subjects, timeline
from resolvers.nodes import Thing
from schema.enums import MfaMethod, OperationKind, OperationStatus
from schema.fields import Info, field
from schema.node import OPERATION_TYPES, Node
from schema.steps import OperationError, OperationProgress
from schema.tenants import Tenant
from schema.users import User

Shown: TypeAlias = Parent[operations.Operation]


@strawberry.interface(
    description="Work that a workflow carries out and that a client can follow. "
    "A frontend cache keyed by id stays right by itself."
)
class Operation(Node):
    kind: OperationKind

    @classmethod
    def is_type_of(cls, thing: object, _info: object) -> bool:
        return isinstance(thing, operations.Operation) and OPERATION_TYPES[thing.kind] == cls.__name__

    @field(OperationStatus)
    @staticmethod
    def status(operation: Shown) -> OperationStatus:
        return operation.state.status

    @field(OperationProgress)
    @staticmethod
    def progress(operation: Shown, info: Info) -> timeline.Progress:
        return timeline.progress(operation, info.context.backend.durations)

    @field(User | None, "Who started it; null for a login that has not identified anybody yet.")
    @staticmethod
    async def started_by(operation: Shown, info: Info) -> users.User | None:
        return await details.started_by(info.context, operation)

    @field(Tenant | None)
    @staticmethod
    async def tenant(operation: Shown, info: Info) -> tenants.Tenant | None:
        return await details.tenant(info.context, operation)

    started_at: datetime
    closed_at: datetime | None

    @field(OperationError | None, "Set once status is FAILED, CANCELLED or TIMED_OUT.")
    @staticmethod
    def error(operation: Shown) -> operations.OperationFailure | None:
        return details.failure(operation)

    @field(
        str | None,
        "Short label of the object concerned: an e-mail address, a file name, a tenant name. Set from the start and "
        "kept after the end. Null for viewers who may not see it.",
    )
    @staticmethod
    async def subject(operation: Shown, info: Info) -> str | None:
        return await subjects.subject(info.context, operation)

    @field(Node | None, "The object concerned, while it exists and the viewer may see it.")
    @staticmethod
    async def target(operation: Shown, info: Info) -> Thing | None:
        return await subjects.target(info.context, operation)

    @field(Annotated["Operation", strawberry.lazy("schema.operations")] | None, "The operation that this one retries.")
    @staticmethod
    async def retry_of(operation: Shown, info: Info) -> operations.Operation | None:
        return await subjects.retry_of(info.context, operation)

    @field(str, "Where this state stands in the operation's life. Pass it as `after` to hear only of newer states.")
    @staticmethod
    def cursor(operation: Shown, info: Info) -> str:
        return info.context.backend.operations.cursor(operation)


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
    def challenge(operation: Shown) -> auth.MfaChallenge | None:
        return operation.state.challenge if operation.state.status is OperationStatus.WAITING else None


@strawberry.type
class TenantSwitchResult:
    tenant: Tenant
    user: User
    permissions: list[str]


@strawberry.type
class TenantSwitch(Operation):
    @field(Tenant | None)
    @staticmethod
    async def from_tenant(operation: Shown, info: Info) -> tenants.Tenant | None:
        return await details.from_tenant(info.context, operation)

    @field(Tenant | None)
    @staticmethod
    async def to_tenant(operation: Shown, info: Info) -> tenants.Tenant | None:
        return await details.to_tenant(info.context, operation)

    @field(TenantSwitchResult | None)
    @staticmethod
    def result(operation: Shown, info: Info) -> Awaitable[details.SwitchOutcome | None] | None:
        return details.switch_outcome(info.context, operation) if operation.state.result else None
