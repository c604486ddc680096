"""How staged bytes become a file, step by step and back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from pydantic import JsonValue
from tortoise.expressions import F

from activities.files import models
from activities.files.file_analysis import Report, checksums, with_heartbeats
from activities.files.mapping import find_upload
from activities.files.quotas import LIMITS
from activities.files.validation import no_room
from activities.idempotency import once, undo
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


class _Made(Contract):
    """What the ledger keeps of a file's record."""

    file_id: str
    tenant_id: str
    size: int


class UploadingService:
    """The steps of an upload's operation: each can run twice, and each undo is harmless where its step did nothing."""

    def __init__(self, storage: FileStorage, clock: Callable[[], datetime] = utc_now) -> None:
        self._storage = storage
        self._clock = clock

    async def validate_file_upload(
        self, command: UploadFileCommand, report: Report, *, reached: float = 0.0, operation_id: str | None = None
    ) -> CheckedUpload:
        """Look at the staged bytes themselves, wherever they came in. What was refused is removed.

        Bytes of which ``operation_id`` has made a record in a run before were checked then.
        Raises UploadNotFound, UploadCompleted, InvalidInput.
        """
        row = await find_upload(command.upload_id, command.tenant_id, command.user_id)
        if row.file_id is not None:
            file = await models.File.get_or_none(id=row.file_id)
            if operation_id is None or file is None or not await _has_recorded(operation_id, file.id):
                raise UploadCompleted()
            return _checked(row, file.size, file.checksum)
        key = staging_key(row.tenant_id, row.id)
        size = await self._storage.size(key)
        if size is None:
            raise _refused("No bytes have arrived for this upload.")
        try:
            checksum = await self._check(row, key, size, report, reached)
        except InvalidInput:
            await self._storage.remove(key)
            await models.Upload.filter(id=row.id).update(received_at=None)  # nothing is left to keep room for
            raise
        return _checked(row, size, checksum)

    async def create_file_record(self, new: NewFile) -> FileRecord:
        """Claim the upload and the room for it. Raises UploadNotFound, UploadCompleted, InvalidInput (no room)."""

        async def create() -> JsonValue:
            row = await find_upload(new.upload_id, new.tenant_id, new.user_id)
            made = _Made(file_id=new_id("fil"), tenant_id=row.tenant_id, size=row.size)
            if not await models.Upload.filter(id=row.id, file_id=None).update(file_id=made.file_id):
                raise UploadCompleted()
            most = LIMITS[SubscriptionTier(row.tier)].tenant - row.size
            usage = models.Usage.filter(tenant_id=row.tenant_id, bytes__lte=most)
            if not await usage.update(bytes=F("bytes") + row.size):
                raise no_room()
            await models.File.create(
                id=made.file_id,
                tenant_id=row.tenant_id,
                owner_id=row.user_id,
                upload_id=row.id,
                size=row.size,
                checksum=new.checksum,
                created_at=self._clock(),
            )
            return made.model_dump()

        made = _Made.model_validate(await once(models.FilesEffect, new.key, create))
        return FileRecord(file_id=made.file_id)

    async def delete_file_record(self, key: str) -> None:
        """Its object too, should it still be there; the staged bytes stay, so that another operation can take them."""

        async def delete(answer: JsonValue) -> None:
            await delete_record(_Made.model_validate(answer).file_id)

        answer = await undo(models.FilesEffect, key, delete)
        if answer is not None:
            made = _Made.model_validate(answer)
            await self._storage.remove(storage_key(made.tenant_id, made.file_id))

    async def upload_to_storage(self, stored: StoredFile, report: Report, *, reached: float = 0.0) -> None:
        """Copy the staged bytes to where nobody outside can write, and see that they still are those that were checked.

        Raises FileNotFound, BytesDamaged, EffectUndone.
        """
        done = await models.FilesEffect.get_or_none(key=stored.key)
        if done is not None and not done.undone:
            return
        row = await _unpublished(stored.file_id, stored.tenant_id)
        key = storage_key(row.tenant_id, row.id)
        try:
            copying = self._storage.copy(staging_key(row.tenant_id, row.upload_id), key)
            await with_heartbeats(copying, report, StepHeartbeat(fraction=reached))
            sums = await checksums(self._storage, key, row.size, report, reached=reached)
        except FileNotFoundError as error:
            raise FileCorrupted("The uploaded bytes are gone.") from error

        async def note() -> JsonValue:
            file = models.File.filter(id=row.id)
            if not await file.update(chunk_bytes=sums.chunk_bytes, chunk_checksums=list(sums.chunks)):
                raise FileNotFound()
            return stored.file_id

        try:
            if sums.whole != row.checksum or await self._storage.size(key) != row.size:
                raise FileCorrupted()
            await once(models.FilesEffect, stored.key, note)
        except (FileCorrupted, FileNotFound, StepAlreadyUndone):
            await self._storage.remove(key)
            raise

    async def remove_from_storage(self, stored: StoredFile) -> None:
        """The object goes, whether or not the step came to say that it was there; the staged bytes stay."""

        async def forget(answer: JsonValue) -> None:
            await models.File.filter(id=answer).update(chunk_bytes=0, chunk_checksums=[])

        await undo(models.FilesEffect, stored.key, forget)
        await self._storage.remove(storage_key(stored.tenant_id, stored.file_id))

    async def update_file_metadata(self, details: FileDetails) -> None:
        """Its name and type. Raises FileNotFound."""

        async def update() -> JsonValue:
            row = await _unpublished(details.file_id, details.tenant_id)
            await models.File.filter(id=row.id).update(name=details.name, content_type=details.content_type)
            return details.model_copy(update={"name": row.name, "content_type": row.content_type}).model_dump()

        await once(models.FilesEffect, details.key, update)

    async def restore_file_metadata(self, key: str) -> None:
        async def restore(answer: JsonValue) -> None:
            former = FileDetails.model_validate(answer)
            file = models.File.filter(id=former.file_id)
            await file.update(name=former.name, content_type=former.content_type)

        await undo(models.FilesEffect, key, restore)

    async def set_file_permissions(self, permissions: FilePermissions) -> None:
        """Who sees it: with that it is there, for all but its makers. Raises FileNotFound."""

        async def publish() -> JsonValue:
            row = await _unpublished(permissions.file_id, permissions.tenant_id)
            file = models.File.filter(id=row.id)
            await file.update(access_level=permissions.access_level.value, uploaded_at=self._clock())
            return permissions.model_copy(update={"access_level": AccessLevel(row.access_level)}).model_dump(
                mode="json"
            )

        await once(models.FilesEffect, permissions.key, publish)

    async def restore_file_permissions(self, key: str) -> None:
        async def withdraw(answer: JsonValue) -> None:
            former = FilePermissions.model_validate(answer)
            file = models.File.filter(id=former.file_id)
            await file.update(access_level=former.access_level.value, uploaded_at=None)

        await undo(models.FilesEffect, key, withdraw)

    async def _check(self, row: models.Upload, key: str, size: int, report: Report, reached: float) -> str:
        """The checksum of bytes that are what was announced; InvalidInput where they are not."""
        if size != row.size:
            raise _refused(f"{row.size} bytes were announced and {size} have arrived.")
        sample = await self._storage.read(key, 0, SAMPLE_BYTES) if size else b""
        if contradicts(sample, row.content_type):
            raise _refused(f"The bytes are not of the type {row.content_type}.")
        found = (await checksums(self._storage, key, size, report, reached=reached)).whole
        if row.checksum is not None and row.checksum != found:
            raise _refused("The bytes do not have the announced checksum.")
        return found


async def delete_record(file_id: str) -> None:
    """Within a transaction: the record goes, its room and its upload are free again; harmless where it is gone."""
    row = await models.File.select_for_update().get_or_none(id=file_id)
    if row is None:
        return
    await models.File.filter(id=file_id).delete()
    await models.Usage.filter(tenant_id=row.tenant_id).update(bytes=F("bytes") - row.size)
    await models.Upload.filter(file_id=file_id).update(file_id=None)


async def _has_recorded(operation_id: str, file_id: str) -> bool:
    """Whether it was one of the operation's steps that made the file's record."""
    for effect in await models.FilesEffect.filter(key__startswith=f"{operation_id}:", undone=False):
        answer = effect.answer[0] if effect.answer else None
        if isinstance(answer, dict) and answer.get("file_id") == file_id:
            return True
    return False


def _checked(row: models.Upload, size: int, checksum: str) -> CheckedUpload:
    return CheckedUpload(
        name=row.name,
        content_type=row.content_type,
        access_level=AccessLevel(row.access_level),
        size=size,
        checksum=checksum,
    )


async def _unpublished(file_id: str, tenant_id: str) -> models.File:
    row = await models.File.get_or_none(id=file_id, tenant_id=tenant_id, uploaded_at=None)
    if row is None:
        raise FileNotFound()
    return row


def _refused(message: str) -> InvalidInput:
    return InvalidInput(message, fields=(FieldError(path=("uploadId",), message=message),))
