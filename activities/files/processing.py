"""The processing service: verifies stored files, extracts their metadata and publishes it."""

from __future__ import annotations

import asyncio
import hashlib

from pydantic import JsonValue

from activities.files import models
from activities.files.file_analysis import ReportProgress, count_text, image_metadata, read_blocks
from activities.files.mapping import visible_to
from activities.idempotency import run_once, undo_once
from contracts.base import Contract, is_id
from contracts.errors import FileCorrupted, FileNotFound
from contracts.files import (
    ChecksumProgress,
    FileMetadata,
    MetadataPublication,
    OtherMetadata,
    ProcessFileCommand,
    TextProgress,
)
from infrastructure.content_sniffing import is_textual
from infrastructure.storage import FileStorage, storage_key


class _PreviousMetadata(Contract):
    """The stored result of a publication: the metadata before it."""

    file_id: str
    metadata: JsonValue
    metadata_key: str | None


class ProcessingService:
    """Implements the steps of the workflow ProcessFile. A user can process the files that the user can see."""

    def __init__(self, storage: FileStorage) -> None:
        self._storage = storage

    async def verify_checksum(
        self, command: ProcessFileCommand, report: ReportProgress, *, resume_from: ChecksumProgress | None = None
    ) -> None:
        """Compare the checksum of each stored chunk with the checksum that the upload recorded.

        Args:
            command: the file and the user who processes it.
            report: receives the progress.
            resume_from: the progress of an earlier attempt; chunks that it verified are not read again.

        Raises:
            FileNotFound: the user cannot see such a file.
            FileCorrupted: the stored bytes differ from the uploaded bytes.
        """
        row = await _find_visible(command)
        key, chunks = storage_key(row.tenant_id, row.id), row.chunk_checksums
        if await self._storage.size(key) != row.size or not isinstance(chunks, list):
            raise FileCorrupted()
        done = resume_from or ChecksumProgress()
        for index in range(done.chunks, len(chunks)):
            start = index * row.chunk_bytes
            chunk = hashlib.sha256()
            async for block, end in read_blocks(self._storage, key, start, min(start + row.chunk_bytes, row.size)):
                await asyncio.to_thread(chunk.update, block)
                done = ChecksumProgress(fraction=max(done.fraction, end / row.size), chunks=index)
                report(done)
            if chunk.hexdigest() != chunks[index]:
                raise FileCorrupted()
            report(ChecksumProgress(fraction=done.fraction, chunks=index + 1))

    async def extract_metadata(
        self, command: ProcessFileCommand, report: ReportProgress, *, resume_from: TextProgress | None = None
    ) -> FileMetadata:
        """Return lines and words of a text, dimensions of an image, or size and type of any other file.

        Args:
            command: the file and the user who processes it.
            report: receives the progress.
            resume_from: the progress of an earlier attempt in a text.

        Raises:
            FileNotFound: the user cannot see such a file.
            FileCorrupted: the stored object is shorter than the file.
        """
        row = await _find_visible(command)
        key = storage_key(row.tenant_id, row.id)
        if is_textual(row.content_type):
            return await count_text(self._storage, key, row.size, report, resume_from=resume_from)
        if row.content_type.startswith("image/") and (image := await image_metadata(self._storage, key, row.size)):
            return image
        return OtherMetadata(size=row.size, type=row.content_type)

    async def publish_metadata(self, publication: MetadataPublication) -> None:
        """Store the metadata with the file.

        Raises:
            FileNotFound: the file does not exist or is not published.
        """

        async def publish() -> JsonValue:
            row = await models.File.select_for_update().get_or_none(
                id=publication.file_id, tenant_id=publication.tenant_id, uploaded_at__isnull=False
            )
            if row is None:
                raise FileNotFound()
            metadata = publication.metadata.model_dump(mode="json")
            await models.File.filter(id=row.id).update(metadata=metadata, metadata_key=publication.key)
            return _PreviousMetadata(file_id=row.id, metadata=row.metadata, metadata_key=row.metadata_key).model_dump()

        await run_once(models.FilesIdempotencyRecord, publication.key, publish)

    async def undo_publish_metadata(self, key: str) -> None:
        """Restore the previous metadata, unless a later step has published other metadata."""

        async def restore(answer: JsonValue) -> None:
            previous = _PreviousMetadata.model_validate(answer)
            file = models.File.filter(id=previous.file_id, metadata_key=key)
            await file.update(metadata=previous.metadata, metadata_key=previous.metadata_key)

        await undo_once(models.FilesIdempotencyRecord, key, restore)


async def _find_visible(command: ProcessFileCommand) -> models.File:
    visible = visible_to(command.user_id, command.tenant_id, is_administrator=command.is_administrator)
    row = await models.File.filter(visible).get_or_none(id=command.file_id) if is_id(command.file_id, "fil") else None
    if row is None:
        raise FileNotFound()
    return row
