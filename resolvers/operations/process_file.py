"""Process a file: what a client sends, and how the operation is started."""

from __future__ import annotations

from contracts.auth import Session
from contracts.errors import FileNotFound
from contracts.files import (
    AccessLevel,
    ProcessFileCommand,
)
from contracts.operation_records import Subject
from contracts.operations import FileProcessed, OperationKind
from contracts.validation import Id, IdempotencyKey, WaitSeconds
from resolvers.context import Context
from resolvers.expected_tenant import find_repeated_operation
from resolvers.inputs import Input
from resolvers.operations.access import ADMINISTER
from resolvers.operations.operations import StartedOperation
from resolvers.operations.start import StartRequest
from resolvers.operations.start_requests import StartOptions
from workflows.process_file import ProcessFile

PROCESS = "files:process"


class ProcessFileInput(Input):
    file_id: Id
    idempotency_key: IdempotencyKey | None = None
    wait_seconds: WaitSeconds = 0


async def start(context: Context, input: ProcessFileInput) -> StartedOperation:
    """FileNotFound where the viewer sees no such file here: then nothing is started. PermissionDenied."""
    wish, kind = StartOptions(key=input.idempotency_key), OperationKind.FILE_PROCESSING
    asked = wish.asked(file=input.file_id)
    before = await find_repeated_operation(
        context, kind, wish, lambda ids: [asked] * len(ids.all), wait_seconds=input.wait_seconds
    )
    if before is not None:
        return StartedOperation(before)
    viewer = await context.require_permission(PROCESS)
    started = await order(context, viewer, input.file_id, wish)
    return StartedOperation(await context.start(started, wait_seconds=input.wait_seconds))


async def order(
    context: Context, viewer: Session, file_id: str, wish: StartOptions
) -> StartRequest[ProcessFile, ProcessFileCommand, FileProcessed]:
    file = await context.loaders(context.caller(viewer)).file.load(file_id)
    if file is None:
        raise FileNotFound()
    command = ProcessFileCommand(
        file_id=file_id,
        tenant_id=viewer.tenant_id,
        user_id=viewer.user_id,
        is_administrator=ADMINISTER in viewer.permissions,
    )
    orders = context.backend.orders
    id = orders.id(OperationKind.FILE_PROCESSING, viewer, wish)
    request = orders.of_viewer(viewer, id, ProcessFile.run, command, wish.asked(file=file_id))
    is_private = file.access_level is AccessLevel.PRIVATE
    return request.concerning(Subject(label=file.name, target_id=file.id, is_private=is_private))
