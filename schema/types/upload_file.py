"""The types of a file upload: input, operation and payload."""

from __future__ import annotations

from collections.abc import Awaitable

import strawberry
from strawberry import ID, UNSET

from resolvers.operations import fields
from schema.descriptions import IDEMPOTENCY_KEY, RESULT, STARTED_OPERATION, WAIT_SECONDS
from schema.fields import Info, field
from schema.types.files import File
from schema.types.operations import Operation, OperationParent


@strawberry.input(description="Input of completeUpload.")
class CompleteUploadInput:
    upload_id: ID = strawberry.field(description="Id of the upload whose bytes were sent.")
    idempotency_key: str | None = strawberry.field(default=UNSET, description=IDEMPOTENCY_KEY)
    wait_seconds: float | None = strawberry.field(default=0, description=WAIT_SECONDS)


@strawberry.type(description="Result of a file upload.")
class FileUploadResult:
    file: File = strawberry.field(description="The new file.")


@strawberry.type(description="Creation of a file from the bytes of an upload.")
class FileUpload(Operation):
    @field(FileUploadResult | None, RESULT)
    @staticmethod
    def result(operation: OperationParent, info: Info) -> Awaitable[fields.FileOutcome | None] | None:
        return fields.file_outcome(info.context, operation) if operation.state.result else None


@strawberry.type(description="Result of completeUpload.")
class CompleteUploadPayload:
    operation: FileUpload = strawberry.field(description=STARTED_OPERATION)
