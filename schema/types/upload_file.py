"""Make a file of an upload: what a client sends, and the operation that it starts."""

from __future__ import annotations

from collections.abc import Awaitable

import strawberry
from strawberry import ID, UNSET

from resolvers.operations import fields as details
from schema.fields import Info, field
from schema.types.files import File
from schema.types.operations import Operation, OperationParent


@strawberry.input
class CompleteUploadInput:
    upload_id: ID
    idempotency_key: str | None = UNSET
    wait_seconds: float | None = 0


@strawberry.type
class FileUploadResult:
    file: File


@strawberry.type
class FileUpload(Operation):
    @field(FileUploadResult | None)
    @staticmethod
    def result(operation: OperationParent, info: Info) -> Awaitable[details.FileOutcome | None] | None:
        return details.file_outcome(info.context, operation) if operation.state.result else None


@strawberry.type
class CompleteUploadPayload:
    operation: FileUpload
