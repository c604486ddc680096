"""The files services on one storage, with hands that do what clients and operations do."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path
from uuid import uuid4

from activities.files import models
from activities.files.cleanup import FileCleanup
from activities.files.processing import ProcessingService
from activities.files.service import FilesService
from activities.files.uploading import UploadingService
from contracts.auth import PERMISSIONS, Role
from contracts.base import new_id, utc_now
from contracts.callers import Caller
from contracts.files import (
    AccessLevel,
    CheckedUpload,
    FileDetails,
    FilePermissions,
    NewFile,
    NewUpload,
    StoredFile,
    UploadFileCommand,
)
from contracts.operations import StepHeartbeat
from contracts.tenants import SubscriptionTier
from infrastructure.signing.secret_keys import SecretKeys
from infrastructure.signing.transfer_tokens import TransferTokenSigner
from infrastructure.storage import FileStorage, staging_key


def caller(tenant_id: str | None = None, role: Role = Role.MEMBER, user_id: str | None = None) -> Caller:
    return Caller(
        user_id=user_id or new_id("usr"),
        tenant_id=tenant_id or new_id("ten"),
        permissions=tuple(sorted(PERMISSIONS[role])),
    )


def ignore_progress(_: StepHeartbeat) -> None:
    """Nobody listens to how far it is."""


async def in_chunks(content: bytes, size: int = 65536) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


class FileServices:
    def __init__(self, storage: FileStorage, clock: Callable[[], datetime] = utc_now) -> None:
        self.storage = storage
        self.signer = TransferTokenSigner(SecretKeys(b"k" * 32), clock)
        self.files = FilesService(self.signer, clock)
        self.uploading = UploadingService(storage, clock)
        self.processing = ProcessingService(storage)
        self.cleanup = FileCleanup(storage, clock)

    async def announce(
        self,
        sender: Caller,
        content: bytes,
        *,
        name: str = "notes.txt",
        content_type: str = "text/plain",
        access_level: AccessLevel = AccessLevel.PRIVATE,
        tier: SubscriptionTier = SubscriptionTier.ENTERPRISE,
    ) -> UploadFileCommand:
        """An upload of which nothing has arrived."""
        new = NewUpload(
            name=name,
            content_type=content_type,
            size=len(content),
            checksum=hashlib.sha256(content).hexdigest(),
            access_level=access_level,
            tier=tier,
        )
        target = await self.files.create_upload(sender, new)
        return UploadFileCommand(upload_id=target.id, tenant_id=sender.tenant_id or "", user_id=sender.user_id or "")

    async def store_staged_bytes(self, command: UploadFileCommand, content: bytes) -> None:
        """The bytes arrive."""
        await self.storage.save(staging_key(command.tenant_id, command.upload_id), in_chunks(content))

    async def upload(
        self,
        sender: Caller,
        content: bytes,
        *,
        name: str = "notes.txt",
        content_type: str = "text/plain",
        access_level: AccessLevel = AccessLevel.PRIVATE,
    ) -> UploadFileCommand:
        command = await self.announce(sender, content, name=name, content_type=content_type, access_level=access_level)
        await self.store_staged_bytes(command, content)
        return command

    async def create_record(self, command: UploadFileCommand, key: str) -> str:
        """A checked upload's record; its file's id."""
        upload = await self.uploading.validate_file_upload(command, ignore_progress)
        new = NewFile(key=key, checksum=upload.checksum, **command.model_dump())
        return (await self.uploading.create_file_record(new)).file_id

    async def create_file(
        self,
        sender: Caller,
        content: bytes,
        *,
        name: str = "notes.txt",
        content_type: str = "text/plain",
        access_level: AccessLevel = AccessLevel.PRIVATE,
    ) -> str:
        """All the steps of an upload; the file's id."""
        command = await self.upload(sender, content, name=name, content_type=content_type, access_level=access_level)
        upload = await self.uploading.validate_file_upload(command, ignore_progress)
        return await self.complete(command, upload)

    async def complete(self, command: UploadFileCommand, upload: CheckedUpload) -> str:
        run, tenant_id = uuid4().hex, command.tenant_id
        new = NewFile(key=f"{run}:record", checksum=upload.checksum, **command.model_dump())
        file_id = (await self.uploading.create_file_record(new)).file_id
        stored = StoredFile(key=f"{run}:store", file_id=file_id, tenant_id=tenant_id)
        await self.uploading.upload_to_storage(stored, ignore_progress)
        await self.uploading.update_file_metadata(
            FileDetails(
                key=f"{run}:details",
                file_id=file_id,
                tenant_id=tenant_id,
                name=upload.name,
                content_type=upload.content_type,
            )
        )
        await self.uploading.set_file_permissions(
            FilePermissions(
                key=f"{run}:permissions", file_id=file_id, tenant_id=tenant_id, access_level=upload.access_level
            )
        )
        return file_id


def objects(folder: Path) -> set[Path]:
    """All that a storage keeps in this folder."""
    return {path for path in folder.rglob("*") if path.is_file()}


async def rows() -> list[object]:
    """All that an operation on files may touch in the database."""
    return [
        await models.Upload.all().order_by("id").values(),
        await models.File.all().order_by("id").values(),
        await models.Usage.all().order_by("tenant_id").values(),
    ]
