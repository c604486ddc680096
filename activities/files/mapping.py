"""From rows to what readers see, and which rows they see at all."""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import TypeAdapter
from tortoise.expressions import Q

from activities.files import models
from contracts.base import is_id
from contracts.errors import UploadNotFound
from contracts.files import AccessLevel, File, FileMetadata, Upload
from contracts.transfer_tokens import DownloadGrant, TransferSigner
from infrastructure.storage import storage_key

READ, ADMINISTER = "files:read", "operations:administer"
_LINK_LIFETIME = timedelta(minutes=5)
_METADATA: TypeAdapter[FileMetadata | None] = TypeAdapter(FileMetadata | None)


def seen_by(user_id: str, tenant_id: str, *, administers: bool) -> Q:
    """The files of the tenant that were published and that this user may see."""
    published = Q(tenant_id=tenant_id, uploaded_at__isnull=False)
    if administers:
        return published
    return published & (Q(owner_id=user_id) | Q(access_level=AccessLevel.TENANT.value))


def file_view(row: models.File, user_id: str, signer: TransferSigner, now: datetime) -> File:
    """Return a published file (``seen_by``) as this user sees it. Two views within a minute have the same link."""
    assert row.uploaded_at is not None
    is_members = row.owner_id == user_id or row.access_level == AccessLevel.TENANT.value
    grant = DownloadGrant(
        tenant_id=row.tenant_id,
        user_id=user_id,
        permission=READ if is_members else ADMINISTER,
        storage_key=storage_key(row.tenant_id, row.id),
        name=row.name,
        content_type=row.content_type,
        size=row.size,
    )
    expires_at = now.replace(second=0, microsecond=0) + _LINK_LIFETIME
    return File(
        id=row.id,
        tenant_id=row.tenant_id,
        owner_id=row.owner_id,
        name=row.name,
        content_type=row.content_type,
        size=row.size,
        checksum=row.checksum,
        access_level=AccessLevel(row.access_level),
        uploaded_at=row.uploaded_at,
        download_url=signer.download_path(grant, expires_at),
        metadata=_METADATA.validate_python(row.metadata),
    )


def upload_view(row: models.Upload) -> Upload:
    return Upload(
        id=row.id,
        tenant_id=row.tenant_id,
        user_id=row.user_id,
        name=row.name,
        size=row.size,
        access_level=AccessLevel(row.access_level),
        file_id=row.file_id,
    )


async def find_upload(upload_id: str, tenant_id: str, user_id: str) -> models.Upload:
    """One that this user created in this tenant; UploadNotFound for all others."""
    known = is_id(upload_id, "upl")
    row = await models.Upload.get_or_none(id=upload_id, tenant_id=tenant_id, user_id=user_id) if known else None
    if row is None:
        raise UploadNotFound()
    return row
