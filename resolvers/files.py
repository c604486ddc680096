"""Files: where to send one, what becomes of it, which there are, and where to fetch one."""

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
from resolvers.inputs import CreateUploadInput, PageInput, in_the_input
from resolvers.operations.upload_file import WRITE
from resolvers.paging import Page


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
