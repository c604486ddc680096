"""Operations: the interface that all kinds share."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, TypeAlias

import strawberry
from strawberry import Parent

from contracts import operations, tenants, users
from resolvers.nodes import Thing
from resolvers.operations import fields as details
from resolvers.operations import progress_summary as timeline
from resolvers.operations import subjects
from schema.fields import Info, field
from schema.types.enums import OperationKind, OperationStatus
from schema.types.node import OPERATION_TYPES, Node
from schema.types.operation_progress import OperationError, OperationProgress
from schema.types.tenants import Tenant
from schema.types.users import User

OperationParent: TypeAlias = Parent[operations.Operation]


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
    def status(operation: OperationParent) -> OperationStatus:
        return operation.state.status

    @field(OperationProgress)
    @staticmethod
    def progress(operation: OperationParent, info: Info) -> timeline.Progress:
        return timeline.progress(operation, info.context.backend.durations)

    @field(User | None, "Who started it; null for a login that has not identified anybody yet.")
    @staticmethod
    async def started_by(operation: OperationParent, info: Info) -> users.User | None:
        return await details.started_by(info.context, operation)

    @field(Tenant | None)
    @staticmethod
    async def tenant(operation: OperationParent, info: Info) -> tenants.Tenant | None:
        return await details.tenant(info.context, operation)

    started_at: datetime
    closed_at: datetime | None

    @field(OperationError | None, "Set once status is FAILED, CANCELLED or TIMED_OUT.")
    @staticmethod
    def error(operation: OperationParent) -> operations.OperationFailure | None:
        return details.failure(operation)

    @field(
        str | None,
        "Short label of the object concerned: an e-mail address, a file name, a tenant name. Set from the start and "
        "kept after the end. Null for viewers who may not see it.",
    )
    @staticmethod
    async def subject(operation: OperationParent, info: Info) -> str | None:
        return await subjects.subject(info.context, operation)

    @field(Node | None, "The object concerned, while it exists and the viewer may see it.")
    @staticmethod
    async def target(operation: OperationParent, info: Info) -> Thing | None:
        return await subjects.target(info.context, operation)

    @field(
        Annotated["Operation", strawberry.lazy("schema.types.operations")] | None,
        "The operation that this one retries.",
    )
    @staticmethod
    async def retry_of(operation: OperationParent, info: Info) -> operations.Operation | None:
        return await subjects.retry_of(info.context, operation)

    @field(str, "Where this state stands in the operation's life. Pass it as `after` to hear only of newer states.")
    @staticmethod
    def cursor(operation: OperationParent, info: Info) -> str:
        return info.context.backend.operations.cursor(operation)
