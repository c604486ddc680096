"""Mapping of rows to the contracts of files and uploads, and the visibility of files."""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import TypeAdapter
from tortoise.expressions import Q

from activities.files import models
from contracts.base import is_id
from contracts.errors import UploadNotFound
from contracts.files import AccessLevel, File, FileMetadata, Upload
from contracts.transfer_grants import DownloadGrant
from infrastructure.signing.transfer_tokens import TransferTokenSigner
from infrastructure.storage import storage_key

READ, ADMINISTER = "files:read", "operations:administer"
_DOWNLOAD_LINK_LIFETIME = timedelta(minutes=5)
_METADATA: TypeAdapter[FileMetadata | None] = TypeAdapter(FileMetadata | None)


def visible_to(user_id: str, tenant_id: str, *, is_administrator: bool) -> Q:
    """Return the condition of published files of the tenant that this user may see."""
    published = Q(tenant_id=tenant_id, uploaded_at__isnull=False)
    if is_administrator:
        return published
    return published & (Q(owner_id=user_id) | Q(access_level=AccessLevel.TENANT.value))


def to_file(row: models.File, user_id: str, signer: TransferTokenSigner, now: datetime) -> File:
    """Return the file of a published row with a download link for this user, which changes once per minute."""
    assert row.uploaded_at is not None
    is_visible_to_members = row.owner_id == user_id or row.access_level == AccessLevel.TENANT.value
    grant = DownloadGrant(
        tenant_id=row.tenant_id,
        user_id=user_id,
        permission=READ if is_visible_to_members else ADMINISTER,
        storage_key=storage_key(row.tenant_id, row.id),
        name=row.name,
        content_type=row.content_type,
        size=row.size,
    )
    expires_at = now.replace(second=0, microsecond=0) + _DOWNLOAD_LINK_LIFETIME
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


def to_upload(row: models.Upload) -> Upload:
    """Return the upload of a row."""
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
    """Return the row of an upload that this user created in this tenant.

    Raises:
        UploadNotFound: there is no such upload.
    """
    is_upload_id = is_id(upload_id, "upl")
    row = await models.Upload.get_or_none(id=upload_id, tenant_id=tenant_id, user_id=user_id) if is_upload_id else None
    if row is None:
        raise UploadNotFound()
    return row
