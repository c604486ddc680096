"""The types of a file processing: input, operation and payload."""

from __future__ import annotations

from collections.abc import Awaitable

import strawberry
from strawberry import ID, UNSET

from resolvers.operations import fields
from schema.descriptions import IDEMPOTENCY_KEY, RESULT, STARTED_OPERATION, WAIT_SECONDS
from schema.fields import Info, field
from schema.types.files import File
from schema.types.operations import Operation, OperationParent


@strawberry.input(description="Input of processFile.")
class ProcessFileInput:
    file_id: ID = strawberry.field(description="Id of the file.")
    idempotency_key: str | None = strawberry.field(default=UNSET, description=IDEMPOTENCY_KEY)
    wait_seconds: float | None = strawberry.field(default=0, description=WAIT_SECONDS)


@strawberry.type(description="Result of a file processing.")
class FileProcessingResult:
    file: File = strawberry.field(description="The file, with its metadata.")


@strawberry.type(description="Analysis of a file's content, which sets the metadata of the file.")
class FileProcessing(Operation):
    @field(FileProcessingResult | None, RESULT)
    @staticmethod
    def result(operation: OperationParent, info: Info) -> Awaitable[fields.FileOutcome | None] | None:
        return fields.file_outcome(info.context, operation) if operation.state.result else None


@strawberry.type(description="Result of processFile.")
class ProcessFilePayload:
    operation: FileProcessing = strawberry.field(description=STARTED_OPERATION)
