"""Files: where to send one, what becomes of it, which there are, and where to fetch one."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from urllib.parse import urljoin

from pydantic import JsonValue

from contracts.auth import Session
from contracts.errors import FileNotFound, InvalidCursor, InvalidInput, TenantNotFound, UserNotFound
from contracts.files import (
    AccessLevel,
    File,
    FileCursor,
    FilePageRequest,
    NewUpload,
    ProcessFileCommand,
    UploadFileCommand,
    UploadTarget,
)
from contracts.operation_records import Subject
from contracts.operations import FileProcessed, FileUploaded, OperationKind
from contracts.users import User
from resolvers.access import ADMINISTER
from resolvers.context import Context
from resolvers.expected_tenant import check_expected_tenant, repeated
from resolvers.inputs import CompleteUploadInput, CreateUploadInput, PageInput, ProcessFileInput, in_the_input
from resolvers.operations import Started
from resolvers.orders import Wish
from resolvers.paging import Page
from resolvers.start import Order
from workflows.process_file import ProcessFile
from workflows.upload_file import UploadFile

WRITE, PROCESS = "files:write", "files:process"


class UploadCreated(NamedTuple):
    upload: UploadTarget


async def create_upload(context: Context, input: CreateUploadInput) -> UploadCreated:
    """InvalidInput names what the files service refuses by its path in the mutation's input. PermissionDenied."""
    await check_expected_tenant(context)
    viewer = await context.permitted(WRITE)
    caller = context.caller(viewer)
    tenant = await context.loaders(caller).tenant.load(viewer.tenant_id)
    if tenant is None:
        raise TenantNotFound()
    new = NewUpload(
        name=input.name,
        content_type=input.content_type,
        size=input.size,
        checksum=input.checksum,
        access_level=input.access_level,
        tier=tenant.subscription_tier,
    )
    try:
        target = await context.backend.files.create_upload(caller, new)
    except InvalidInput as error:
        raise in_the_input(error) from error
    return UploadCreated(target.model_copy(update={"url": urljoin(context.address, target.url)}))


async def complete_upload(context: Context, input: CompleteUploadInput) -> Started:
    """UploadNotFound where the viewer has no such upload here: then nothing is started. PermissionDenied."""
    wish, kind = Wish(key=input.idempotency_key), OperationKind.FILE_UPLOAD
    asked = wish.asked(upload=input.upload_id)
    before = await repeated(context, kind, wish, lambda ids: [asked] * len(ids.all), wait_seconds=input.wait_seconds)
    if before is not None:
        return Started(before)
    viewer = await context.permitted(WRITE)
    order = await upload_order(context, viewer, input.upload_id, wish)
    return Started(await context.start(order, wait_seconds=input.wait_seconds))


async def process_file(context: Context, input: ProcessFileInput) -> Started:
    """FileNotFound where the viewer sees no such file here: then nothing is started. PermissionDenied."""
    wish, kind = Wish(key=input.idempotency_key), OperationKind.FILE_PROCESSING
    asked = wish.asked(file=input.file_id)
    before = await repeated(context, kind, wish, lambda ids: [asked] * len(ids.all), wait_seconds=input.wait_seconds)
    if before is not None:
        return Started(before)
    viewer = await context.permitted(PROCESS)
    order = await process_order(context, viewer, input.file_id, wish)
    return Started(await context.start(order, wait_seconds=input.wait_seconds))


async def upload_order(
    context: Context, viewer: Session, upload_id: str, wish: Wish
) -> Order[UploadFile, UploadFileCommand, FileUploaded]:
    upload = await context.backend.files.upload(context.caller(viewer), upload_id)
    command = UploadFileCommand(upload_id=upload_id, tenant_id=viewer.tenant_id, user_id=viewer.user_id)
    orders = context.backend.orders
    id = orders.id(OperationKind.FILE_UPLOAD, viewer, wish)
    order = orders.of_viewer(viewer, id, UploadFile.run, command, wish.asked(upload=upload_id))
    return order.concerning(Subject(label=upload.name, is_private=upload.access_level is AccessLevel.PRIVATE))


async def process_order(
    context: Context, viewer: Session, file_id: str, wish: Wish
) -> Order[ProcessFile, ProcessFileCommand, FileProcessed]:
    file = await context.loaders(context.caller(viewer)).file.load(file_id)
    if file is None:
        raise FileNotFound()
    command = ProcessFileCommand(
        file_id=file_id,
        tenant_id=viewer.tenant_id,
        user_id=viewer.user_id,
        administers=ADMINISTER in viewer.permissions,
    )
    orders = context.backend.orders
    id = orders.id(OperationKind.FILE_PROCESSING, viewer, wish)
    order = orders.of_viewer(viewer, id, ProcessFile.run, command, wish.asked(file=file_id))
    is_private = file.access_level is AccessLevel.PRIVATE
    return order.concerning(Subject(label=file.name, target_id=file.id, is_private=is_private))


async def page(context: Context, viewer: Session, input: PageInput) -> Page[File]:
    """Those the viewer sees in the current tenant, newest first; InvalidCursor where ``after`` is of another list."""
    cursors = context.backend.cursors
    scope = f"files\0{viewer.user_id}\0{viewer.tenant_id}"
    after = None if input.after is None else _cursor(cursors.open(scope, input.after))
    found = await context.backend.files.page(context.caller(viewer), FilePageRequest(first=input.first, after=after))
    return Page(
        nodes=found.files,
        cursors=tuple(cursors.seal(scope, f"{file.uploaded_at.isoformat()} {file.id}") for file in found.files),
        has_next=found.has_next_page,
        total=found.total_count,
    )


async def owner(context: Context, file: File) -> User:
    """UserNotFound where whoever owns it has left the tenant."""
    user = await context.loaders(context.caller(await context.onlooker())).user.load(file.owner_id)
    if user is None:
        raise UserNotFound()
    return user


def download_url(context: Context, file: File) -> str:
    return urljoin(context.address, file.download_url)


def metadata(file: File) -> JsonValue:
    """What processing found out, without the word that tells the contracts apart."""
    return None if file.metadata is None else file.metadata.model_dump(mode="json", exclude={"kind"})


def _cursor(text: str) -> FileCursor:
    try:
        uploaded_at, file_id = text.split(" ")
        return FileCursor(uploaded_at=datetime.fromisoformat(uploaded_at), id=file_id)
    except ValueError as error:
        raise InvalidCursor() from error
