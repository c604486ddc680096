"""The uploading service: creates files from staged bytes, one method per step and one per undo."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from pydantic import JsonValue
from tortoise.expressions import F

from activities.files import models
from activities.files.file_analysis import ReportProgress, checksums, with_heartbeats
from activities.files.mapping import find_upload
from activities.files.quotas import LIMITS
from activities.files.validation import storage_exceeded
from activities.idempotency import run_once, undo_once
from contracts.base import Contract, new_id, utc_now
from contracts.errors import (
    FieldError,
    FileCorrupted,
    FileNotFound,
    InvalidInput,
    StepAlreadyUndone,
    UploadCompleted,
)
from contracts.files import (
    AccessLevel,
    CheckedUpload,
    FileDetails,
    FilePermissions,
    FileRecord,
    NewFile,
    StoredFile,
    UploadFileCommand,
)
from contracts.operations import StepHeartbeat
from contracts.tenants import SubscriptionTier
from infrastructure.content_sniffing import SAMPLE_BYTES, contradicts
from infrastructure.storage import FileStorage, staging_key, storage_key


class _FileRecordResult(Contract):
    """The stored result of the step that creates a file's record."""

    file_id: str
    tenant_id: str
    size: int


class UploadingService:
    """Implements the steps of the workflow UploadFile, which are idempotent, and their undos."""

    def __init__(self, storage: FileStorage, clock: Callable[[], datetime] = utc_now) -> None:
        self._storage = storage
        self._clock = clock

    async def validate_file_upload(
        self,
        command: UploadFileCommand,
        report: ReportProgress,
        *,
        min_fraction: float = 0.0,
        operation_id: str | None = None,
    ) -> CheckedUpload:
        """Verify that the staged bytes have the announced size, type and checksum; bytes that do not are removed.

        Args:
            command: the upload and the user who completes it.
            report: receives the progress.
            min_fraction: the progress (0 to 1) that an earlier attempt has reported.
            operation_id: the operation; if an earlier run of it has created the record of the file, the bytes were
                verified then.

        Raises:
            UploadNotFound: the user has no such upload.
            UploadCompleted: another operation has created a file from the upload.
            InvalidInput: the bytes are missing or differ from the announcement.
        """
        row = await find_upload(command.upload_id, command.tenant_id, command.user_id)
        if row.file_id is not None:
            file = await models.File.get_or_none(id=row.file_id)
            if operation_id is None or file is None or not await _has_recorded(operation_id, file.id):
                raise UploadCompleted()
            return _checked_upload(row, file.size, file.checksum)
        key = staging_key(row.tenant_id, row.id)
        size = await self._storage.size(key)
        if size is None:
            raise _invalid_upload("No bytes have arrived for this upload.")
        try:
            checksum = await self._verify(row, key, size, report, min_fraction)
        except InvalidInput:
            await self._storage.remove(key)
            await models.Upload.filter(id=row.id).update(received_at=None)  # ends the reservation
            raise
        return _checked_upload(row, size, checksum)

    async def create_file_record(self, new: NewFile) -> FileRecord:
        """Create the record of the file, and count its size as used storage of the tenant.

        Raises:
            UploadNotFound: the user has no such upload.
            UploadCompleted: another operation has created a file from the upload.
            StorageQuotaExceeded: the tenant has not enough free storage.
        """

        async def create() -> JsonValue:
            row = await find_upload(new.upload_id, new.tenant_id, new.user_id)
            record = _FileRecordResult(file_id=new_id("fil"), tenant_id=row.tenant_id, size=row.size)
            if not await models.Upload.filter(id=row.id, file_id=None).update(file_id=record.file_id):
                raise UploadCompleted()
            max_usage = LIMITS[SubscriptionTier(row.tier)].tenant - row.size
            usage = models.Usage.filter(tenant_id=row.tenant_id, bytes__lte=max_usage)
            if not await usage.update(bytes=F("bytes") + row.size):
                raise storage_exceeded()
            await models.File.create(
                id=record.file_id,
                tenant_id=row.tenant_id,
                owner_id=row.user_id,
                upload_id=row.id,
                size=row.size,
                checksum=new.checksum,
                created_at=self._clock(),
            )
            return record.model_dump()

        record = _FileRecordResult.model_validate(await run_once(models.FilesIdempotencyRecord, new.key, create))
        return FileRecord(file_id=record.file_id)

    async def undo_create_file_record(self, key: str) -> None:
        """Delete the record and the stored object of the file; the staged bytes stay for another operation."""

        async def delete(answer: JsonValue) -> None:
            await delete_record(_FileRecordResult.model_validate(answer).file_id)

        answer = await undo_once(models.FilesIdempotencyRecord, key, delete)
        if answer is not None:
            record = _FileRecordResult.model_validate(answer)
            await self._storage.remove(storage_key(record.tenant_id, record.file_id))

    async def upload_to_storage(self, stored: StoredFile, report: ReportProgress, *, min_fraction: float = 0.0) -> None:
        """Copy the staged bytes to the permanent storage, to which clients cannot write, and verify their checksum.

        Args:
            stored: the file.
            report: receives the progress.
            min_fraction: the progress (0 to 1) that an earlier attempt has reported.

        Raises:
            FileNotFound: the record of the file does not exist, or the file is published.
            FileCorrupted: the bytes are missing, or differ from those that were validated.
            StepAlreadyUndone: the step was undone before this attempt.
        """
        done = await models.FilesIdempotencyRecord.get_or_none(key=stored.key)
        if done is not None and not done.is_undone:
            return
        row = await _find_unpublished(stored.file_id, stored.tenant_id)
        key = storage_key(row.tenant_id, row.id)
        try:
            copying = self._storage.copy(staging_key(row.tenant_id, row.upload_id), key)
            await with_heartbeats(copying, report, StepHeartbeat(fraction=min_fraction))
            sums = await checksums(self._storage, key, row.size, report, min_fraction=min_fraction)
        except FileNotFoundError as error:
            raise FileCorrupted("The uploaded bytes are gone.") from error

        async def record_chunks() -> JsonValue:
            file = models.File.filter(id=row.id)
            if not await file.update(chunk_bytes=sums.chunk_bytes, chunk_checksums=list(sums.chunks)):
                raise FileNotFound()
            return stored.file_id

        try:
            if sums.whole != row.checksum or await self._storage.size(key) != row.size:
                raise FileCorrupted()
            await run_once(models.FilesIdempotencyRecord, stored.key, record_chunks)
        except (FileCorrupted, FileNotFound, StepAlreadyUndone):
            await self._storage.remove(key)
            raise

    async def undo_upload_to_storage(self, stored: StoredFile) -> None:
        """Remove the stored object, also if the step did not complete; the staged bytes stay."""

        async def clear_chunks(answer: JsonValue) -> None:
            await models.File.filter(id=answer).update(chunk_bytes=0, chunk_checksums=[])

        await undo_once(models.FilesIdempotencyRecord, stored.key, clear_chunks)
        await self._storage.remove(storage_key(stored.tenant_id, stored.file_id))

    async def update_file_metadata(self, details: FileDetails) -> None:
        """Set the name and the media type of the file.

        Raises:
            FileNotFound: the record of the file does not exist, or the file is published.
        """

        async def update() -> JsonValue:
            row = await _find_unpublished(details.file_id, details.tenant_id)
            await models.File.filter(id=row.id).update(name=details.name, content_type=details.content_type)
            return details.model_copy(update={"name": row.name, "content_type": row.content_type}).model_dump()

        await run_once(models.FilesIdempotencyRecord, details.key, update)

    async def undo_update_file_metadata(self, key: str) -> None:
        """Restore the previous name and media type."""

        async def restore(answer: JsonValue) -> None:
            previous = FileDetails.model_validate(answer)
            file = models.File.filter(id=previous.file_id)
            await file.update(name=previous.name, content_type=previous.content_type)

        await undo_once(models.FilesIdempotencyRecord, key, restore)

    async def set_file_permissions(self, permissions: FilePermissions) -> None:
        """Set the access level of the file and publish the file.

        Raises:
            FileNotFound: the record of the file does not exist, or the file is published.
        """

        async def publish() -> JsonValue:
            row = await _find_unpublished(permissions.file_id, permissions.tenant_id)
            file = models.File.filter(id=row.id)
            await file.update(access_level=permissions.access_level.value, uploaded_at=self._clock())
            return permissions.model_copy(update={"access_level": AccessLevel(row.access_level)}).model_dump(
                mode="json"
            )

        await run_once(models.FilesIdempotencyRecord, permissions.key, publish)

    async def undo_set_file_permissions(self, key: str) -> None:
        """Restore the previous access level and hide the file."""

        async def hide(answer: JsonValue) -> None:
            previous = FilePermissions.model_validate(answer)
            file = models.File.filter(id=previous.file_id)
            await file.update(access_level=previous.access_level.value, uploaded_at=None)

        await undo_once(models.FilesIdempotencyRecord, key, hide)

    async def _verify(
        self, row: models.Upload, key: str, size: int, report: ReportProgress, min_fraction: float
    ) -> str:
        """Return the checksum of the staged bytes. Raises InvalidInput if they differ from the announcement."""
        if size != row.size:
            raise _invalid_upload(f"{row.size} bytes were announced and {size} have arrived.")
        sample = await self._storage.read(key, 0, SAMPLE_BYTES) if size else b""
        if contradicts(sample, row.content_type):
            raise _invalid_upload(f"The bytes are not of the type {row.content_type}.")
        actual = (await checksums(self._storage, key, size, report, min_fraction=min_fraction)).whole
        if row.checksum is not None and row.checksum != actual:
            raise _invalid_upload("The bytes do not have the announced checksum.")
        return actual


async def delete_record(file_id: str) -> None:
    """Delete the record of a file within a transaction, and release its storage and its upload; idempotent."""
    row = await models.File.select_for_update().get_or_none(id=file_id)
    if row is None:
        return
    await models.File.filter(id=file_id).delete()
    await models.Usage.filter(tenant_id=row.tenant_id).update(bytes=F("bytes") - row.size)
    await models.Upload.filter(file_id=file_id).update(file_id=None)


async def _has_recorded(operation_id: str, file_id: str) -> bool:
    """Return whether a step of this operation has created the record of the file."""
    for record in await models.FilesIdempotencyRecord.filter(key__startswith=f"{operation_id}:", is_undone=False):
        result = record.result[0] if record.result else None
        if isinstance(result, dict) and result.get("file_id") == file_id:
            return True
    return False


def _checked_upload(row: models.Upload, size: int, checksum: str) -> CheckedUpload:
    return CheckedUpload(
        name=row.name,
        content_type=row.content_type,
        access_level=AccessLevel(row.access_level),
        size=size,
        checksum=checksum,
    )


async def _find_unpublished(file_id: str, tenant_id: str) -> models.File:
    """Return the row of an unpublished file. Raises FileNotFound."""
    row = await models.File.get_or_none(id=file_id, tenant_id=tenant_id, uploaded_at=None)
    if row is None:
        raise FileNotFound()
    return row


def _invalid_upload(message: str) -> InvalidInput:
    return InvalidInput(message, fields=(FieldError(path=("uploadId",), message=message),))
