"""The interface Operation, which all kinds of operations implement."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, TypeAlias

import strawberry
from strawberry import Parent

from contracts import operations, tenants, users
from resolvers.nodes import NodeObject
from resolvers.operations import fields, progress_summary, subjects
from schema.fields import Info, field
from schema.types.enums import OperationKind, OperationStatus
from schema.types.node import OPERATION_TYPES, Node
from schema.types.operation_progress import OperationError, OperationProgress
from schema.types.tenants import Tenant
from schema.types.users import User

OperationParent: TypeAlias = Parent[operations.Operation]


@strawberry.interface(description="A unit of work that a Temporal workflow executes and that a client can follow.")
class Operation(Node):
    kind: OperationKind = strawberry.field(description="Kind of the operation.")

    @classmethod
    def is_type_of(cls, value: object, _info: object) -> bool:
        return isinstance(value, operations.Operation) and OPERATION_TYPES[value.kind] == cls.__name__

    @field(OperationStatus, "Status of the operation.")
    @staticmethod
    def status(operation: OperationParent) -> OperationStatus:
        return operation.state.status

    @field(OperationProgress, "Progress of the operation, with all steps.")
    @staticmethod
    def progress(operation: OperationParent, info: Info) -> progress_summary.ProgressSummary:
        return progress_summary.summarize_progress(operation, info.context.backend.durations)

    @field(User | None, "The user who started the operation. Null for a login whose user is not identified yet.")
    @staticmethod
    async def started_by(operation: OperationParent, info: Info) -> users.User | None:
        return await fields.started_by(info.context, operation)

    @field(Tenant | None, "The tenant in which the operation runs. Null if the viewer may not see it.")
    @staticmethod
    async def tenant(operation: OperationParent, info: Info) -> tenants.Tenant | None:
        return await fields.tenant(info.context, operation)

    started_at: datetime = strawberry.field(description="When the operation started.")
    closed_at: datetime | None = strawberry.field(
        description="When the operation reached its final status. Null until then."
    )

    @field(OperationError | None, "Set once status is FAILED, CANCELLED or TIMED_OUT.")
    @staticmethod
    def error(operation: OperationParent) -> operations.OperationFailure | None:
        return fields.failure(operation)

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
    async def target(operation: OperationParent, info: Info) -> NodeObject | None:
        return await subjects.target(info.context, operation)

    @field(
        Annotated["Operation", strawberry.lazy("schema.types.operations")] | None,
        "The operation that this one retries.",
    )
    @staticmethod
    async def retry_of(operation: OperationParent, info: Info) -> operations.Operation | None:
        return await subjects.retry_of(info.context, operation)

    @field(str, "Position of this state in the operation's life. Pass it as `after` to receive only newer states.")
    @staticmethod
    def cursor(operation: OperationParent, info: Info) -> str:
        return info.context.backend.operations.cursor(operation)
