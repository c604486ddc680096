"""Uploads and files: create an upload, list files, and load the related data of a file."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from urllib.parse import urljoin

from pydantic import JsonValue

from contracts.auth import Session
from contracts.errors import InvalidCursor, InvalidInput, TenantNotFound, UserNotFound
from contracts.files import (
    File,
    FileCursor,
    FilePageRequest,
    NewUpload,
    UploadTarget,
)
from contracts.users import User
from resolvers.context import Context
from resolvers.expected_tenant import check_expected_tenant
from resolvers.inputs import CreateUploadInput, PageInput, prefix_input_path
from resolvers.operations.upload_file import WRITE_FILES
from resolvers.paging import Page


class CreatedUpload(NamedTuple):
    """The result of the mutation createUpload."""

    upload: UploadTarget


async def create_upload(context: Context, input: CreateUploadInput) -> CreatedUpload:
    """Reserve an upload and return the URL to which the client sends the bytes.

    Raises:
        NotSignedIn: the client has no session.
        PermissionDenied: the viewer may not write files.
        InvalidInput: the files service rejects a value; the error names its path in the mutation's input.
        WrongTenant: the session is in another tenant than the client displays.
    """
    await check_expected_tenant(context)
    viewer = await context.require_permission(WRITE_FILES)
    caller = context.caller(viewer)
    tenant = await context.loaders(caller).tenant.load(viewer.tenant_id)
    if tenant is None:
        raise TenantNotFound()
    upload = NewUpload(
        name=input.name,
        content_type=input.content_type,
        size=input.size,
        checksum=input.checksum,
        access_level=input.access_level,
        tier=tenant.subscription_tier,
    )
    try:
        target = await context.backend.files.create_upload(caller, upload)
    except InvalidInput as error:
        raise prefix_input_path(error) from error
    return CreatedUpload(target.model_copy(update={"url": urljoin(context.base_url, target.url)}))


async def list_files(context: Context, viewer: Session, input: PageInput) -> Page[File]:
    """Return one page of the files that the viewer may see in the current tenant, newest first.

    Raises:
        InvalidCursor: ``input.after`` is not a cursor of this list.
    """
    cursors = context.backend.cursors
    scope = f"files\0{viewer.user_id}\0{viewer.tenant_id}"
    after = None if input.after is None else _cursor(cursors.verify(scope, input.after))
    found = await context.backend.files.list_files(
        context.caller(viewer), FilePageRequest(first=input.first, after=after)
    )
    return Page(
        nodes=found.files,
        cursors=tuple(cursors.sign(scope, f"{file.uploaded_at.isoformat()} {file.id}") for file in found.files),
        has_next=found.has_next_page,
        total=found.total_count,
    )


async def load_owner(context: Context, file: File) -> User:
    """Return the user who owns the file.

    Raises:
        UserNotFound: the owner has left the tenant.
    """
    user = await context.loaders(context.caller(await context.effective_viewer())).user.load(file.owner_id)
    if user is None:
        raise UserNotFound()
    return user


def absolute_download_url(context: Context, file: File) -> str:
    """Return the download link of the file as an absolute URL of the gateway."""
    return urljoin(context.base_url, file.download_url)


def metadata_values(file: File) -> JsonValue:
    """Return the results of processing without the discriminator ``kind``; None before processing."""
    return None if file.metadata is None else file.metadata.model_dump(mode="json", exclude={"kind"})


def _cursor(text: str) -> FileCursor:
    try:
        uploaded_at, file_id = text.split(" ")
        return FileCursor(uploaded_at=datetime.fromisoformat(uploaded_at), id=file_id)
    except ValueError as error:
        raise InvalidCursor() from error
