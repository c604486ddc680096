"""What processing does with a stored file: see that it is whole, find out what is in it, and show that."""

from __future__ import annotations

import asyncio
import hashlib

from pydantic import JsonValue

from activities.files import models
from activities.files.file_analysis import Report, count_text, image_metadata, read_chunks
from activities.files.mapping import seen_by
from activities.idempotency import once, undo
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


class _Former(Contract):
    """What the ledger keeps of what was shown before."""

    file_id: str
    metadata: JsonValue
    metadata_key: str | None


class ProcessingService:
    """Only who sees a file has it processed; to all others it is not found."""

    def __init__(self, storage: FileStorage) -> None:
        self._storage = storage

    async def verify_checksum(
        self, command: ProcessFileCommand, report: Report, *, since: ChecksumProgress | None = None
    ) -> None:
        """Compare the stored bytes, chunk by chunk, with what they were when their whole had the file's checksum.

        So a try goes on behind the last chunk that an earlier one found right. Raises FileNotFound, BytesDamaged.
        """
        row = await _seen(command)
        key, chunks = storage_key(row.tenant_id, row.id), row.chunk_checksums
        if await self._storage.size(key) != row.size or not isinstance(chunks, list):
            raise FileCorrupted()
        done = since or ChecksumProgress()
        for index in range(done.chunks, len(chunks)):
            start = index * row.chunk_bytes
            chunk = hashlib.sha256()
            async for piece, end in read_chunks(self._storage, key, start, min(start + row.chunk_bytes, row.size)):
                await asyncio.to_thread(chunk.update, piece)
                done = ChecksumProgress(fraction=max(done.fraction, end / row.size), chunks=index)
                report(done)
            if chunk.hexdigest() != chunks[index]:
                raise FileCorrupted()
            report(ChecksumProgress(fraction=done.fraction, chunks=index + 1))

    async def extract_metadata(
        self, command: ProcessFileCommand, report: Report, *, since: TextProgress | None = None
    ) -> FileMetadata:
        """Lines and words of a text, from where an earlier try was; width and height of an image; size and type else.

        Raises FileNotFound, BytesDamaged.
        """
        row = await _seen(command)
        key = storage_key(row.tenant_id, row.id)
        if is_textual(row.content_type):
            return await count_text(self._storage, key, row.size, report, since=since)
        if row.content_type.startswith("image/") and (image := await image_metadata(self._storage, key, row.size)):
            return image
        return OtherMetadata(size=row.size, type=row.content_type)

    async def publish_metadata(self, publication: MetadataPublication) -> None:
        """Show it with the file. Raises FileNotFound."""

        async def publish() -> JsonValue:
            row = await models.File.select_for_update().get_or_none(
                id=publication.file_id, tenant_id=publication.tenant_id, uploaded_at__isnull=False
            )
            if row is None:
                raise FileNotFound()
            shown = publication.metadata.model_dump(mode="json")
            await models.File.filter(id=row.id).update(metadata=shown, metadata_key=publication.key)
            return _Former(file_id=row.id, metadata=row.metadata, metadata_key=row.metadata_key).model_dump()

        await once(models.FilesEffect, publication.key, publish)

    async def withdraw_metadata(self, key: str) -> None:
        """Show what was shown before, unless somebody has published anew since."""

        async def restore(answer: JsonValue) -> None:
            former = _Former.model_validate(answer)
            file = models.File.filter(id=former.file_id, metadata_key=key)
            await file.update(metadata=former.metadata, metadata_key=former.metadata_key)

        await undo(models.FilesEffect, key, restore)


async def _seen(command: ProcessFileCommand) -> models.File:
    seen = seen_by(command.user_id, command.tenant_id, administers=command.administers)
    row = await models.File.filter(seen).get_or_none(id=command.file_id) if is_id(command.file_id, "fil") else None
    if row is None:
        raise FileNotFound()
    return row
