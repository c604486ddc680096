"""The operation that turns a completed upload into a file: its input and its start."""

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
from resolvers.operations.lifecycle import StartedOperation
from resolvers.operations.start import StartRequest
from resolvers.operations.start_requests import StartOptions
from workflows.upload_file import UploadFile

WRITE_FILES = "files:write"


class CompleteUploadInput(Input):
    """Validated input of the mutation ``completeUpload``."""

    upload_id: Id
    idempotency_key: IdempotencyKey | None = None
    wait_seconds: WaitSeconds = 0


async def start(context: Context, input: CompleteUploadInput) -> StartedOperation:
    """Start the creation of a file from an upload.

    Raises:
        UploadNotFound: the viewer has no such upload in this tenant; nothing was started.
        PermissionDenied: the viewer may not write files.
    """
    options, kind = StartOptions(key=input.idempotency_key), OperationKind.FILE_UPLOAD
    fingerprint = options.fingerprint(upload=input.upload_id)
    previous = await find_repeated_operation(
        context, kind, options, lambda ids: [fingerprint] * len(ids.all), wait_seconds=input.wait_seconds
    )
    if previous is not None:
        return StartedOperation(previous)
    viewer = await context.require_permission(WRITE_FILES)
    request = await start_request(context, viewer, input.upload_id, options)
    return StartedOperation(await context.start(request, wait_seconds=input.wait_seconds))


async def start_request(
    context: Context, viewer: Session, upload_id: str, options: StartOptions
) -> StartRequest[UploadFile, UploadFileCommand, FileUploaded]:
    """Return the request to create a file from the upload.

    Raises:
        UploadNotFound: the viewer has no such upload in this tenant.
    """
    upload = await context.backend.files.get_upload(context.caller(viewer), upload_id)
    command = UploadFileCommand(upload_id=upload_id, tenant_id=viewer.tenant_id, user_id=viewer.user_id)
    start_requests = context.backend.start_requests
    ids = start_requests.operation_ids(OperationKind.FILE_UPLOAD, viewer, options)
    request = start_requests.for_viewer(viewer, ids, UploadFile.run, command, options.fingerprint(upload=upload_id))
    return request.with_subject(Subject(label=upload.name, is_private=upload.access_level is AccessLevel.PRIVATE))
