"""The operation that processes a file: its input and its start."""

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
from resolvers.operations.access import ADMINISTER_OPERATIONS
from resolvers.operations.lifecycle import StartedOperation
from resolvers.operations.start import StartRequest
from resolvers.operations.start_requests import StartOptions
from workflows.process_file import ProcessFile

PROCESS_FILES = "files:process"


class ProcessFileInput(Input):
    """Validated input of the mutation ``processFile``."""

    file_id: Id
    idempotency_key: IdempotencyKey | None = None
    wait_seconds: WaitSeconds = 0


async def start(context: Context, input: ProcessFileInput) -> StartedOperation:
    """Start the processing of a file.

    Raises:
        FileNotFound: the viewer cannot see such a file in this tenant; nothing was started.
        PermissionDenied: the viewer may not process files.
    """
    options, kind = StartOptions(key=input.idempotency_key), OperationKind.FILE_PROCESSING
    fingerprint = options.fingerprint(file=input.file_id)
    previous = await find_repeated_operation(
        context, kind, options, lambda ids: [fingerprint] * len(ids.all), wait_seconds=input.wait_seconds
    )
    if previous is not None:
        return StartedOperation(previous)
    viewer = await context.require_permission(PROCESS_FILES)
    request = await start_request(context, viewer, input.file_id, options)
    return StartedOperation(await context.start(request, wait_seconds=input.wait_seconds))


async def start_request(
    context: Context, viewer: Session, file_id: str, options: StartOptions
) -> StartRequest[ProcessFile, ProcessFileCommand, FileProcessed]:
    """Return the request to process the file.

    Raises:
        FileNotFound: the viewer cannot see such a file in this tenant.
    """
    file = await context.loaders(context.caller(viewer)).file.load(file_id)
    if file is None:
        raise FileNotFound()
    command = ProcessFileCommand(
        file_id=file_id,
        tenant_id=viewer.tenant_id,
        user_id=viewer.user_id,
        is_administrator=ADMINISTER_OPERATIONS in viewer.permissions,
    )
    start_requests = context.backend.start_requests
    ids = start_requests.operation_ids(OperationKind.FILE_PROCESSING, viewer, options)
    request = start_requests.for_viewer(viewer, ids, ProcessFile.run, command, options.fingerprint(file=file_id))
    is_private = file.access_level is AccessLevel.PRIVATE
    return request.with_subject(Subject(label=file.name, target_id=file.id, is_private=is_private))
