"""Make a file of an upload: what a client sends, and how the operation is started."""

from __future__ import annotations

from contracts.auth import Session
from contracts.files import (
    AccessLevel,
    UploadFileCommand,
)
from contracts.operation_records import Subject
from contracts.operations import FileUploaded, OperationKind
from contracts.validation import Id, IdempotencyKey, WaitSeconds
from resolvers.context import Context
from resolvers.expected_tenant import find_repeated_operation
from resolvers.inputs import Input
from resolvers.operations.operations import StartedOperation
from resolvers.operations.start import StartRequest
from resolvers.operations.start_requests import StartOptions
from workflows.upload_file import UploadFile

WRITE = "files:write"


class CompleteUploadInput(Input):
    upload_id: Id
    idempotency_key: IdempotencyKey | None = None
    wait_seconds: WaitSeconds = 0


async def start(context: Context, input: CompleteUploadInput) -> StartedOperation:
    """UploadNotFound where the viewer has no such upload here: then nothing is started. PermissionDenied."""
    wish, kind = StartOptions(key=input.idempotency_key), OperationKind.FILE_UPLOAD
    asked = wish.asked(upload=input.upload_id)
    before = await find_repeated_operation(
        context, kind, wish, lambda ids: [asked] * len(ids.all), wait_seconds=input.wait_seconds
    )
    if before is not None:
        return StartedOperation(before)
    viewer = await context.require_permission(WRITE)
    started = await order(context, viewer, input.upload_id, wish)
    return StartedOperation(await context.start(started, wait_seconds=input.wait_seconds))


async def order(
    context: Context, viewer: Session, upload_id: str, wish: StartOptions
) -> StartRequest[UploadFile, UploadFileCommand, FileUploaded]:
    upload = await context.backend.files.get_upload(context.caller(viewer), upload_id)
    command = UploadFileCommand(upload_id=upload_id, tenant_id=viewer.tenant_id, user_id=viewer.user_id)
    orders = context.backend.orders
    id = orders.id(OperationKind.FILE_UPLOAD, viewer, wish)
    request = orders.of_viewer(viewer, id, UploadFile.run, command, wish.asked(upload=upload_id))
    return request.concerning(Subject(label=upload.name, is_private=upload.access_level is AccessLevel.PRIVATE))
