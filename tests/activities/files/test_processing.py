"""What processing finds in files, how far it says it is, and that it goes on where an earlier try stopped."""

from __future__ import annotations

import io
import random

import pytest
from PIL import Image

from activities.files import models
from activities.files.file_analysis import BLOCK_BYTES, chunk_bytes_for, count_text
from activities.files.processing import ProcessingService
from contracts.auth import Role
from contracts.base import new_id
from contracts.callers import Caller
from contracts.errors import FileCorrupted, FileNotFound, StepAlreadyUndone
from contracts.files import (
    AccessLevel,
    ChecksumProgress,
    FileMetadata,
    ImageMetadata,
    MetadataPublication,
    OtherMetadata,
    ProcessFileCommand,
    TextMetadata,
    TextProgress,
)
from contracts.operations import StepHeartbeat
from infrastructure.storage import FileStorage, storage_key
from tests.activities.files.file_fixtures import FileServices, caller, ignore_progress, in_chunks, rows


def asked_by(viewer: Caller, file_id: str) -> ProcessFileCommand:
    return ProcessFileCommand(
        file_id=file_id,
        tenant_id=viewer.tenant_id or "",
        user_id=viewer.user_id or "",
        is_administrator="operations:administer" in viewer.permissions,
    )


def words(size: int) -> bytes:
    """Random words and lines, the same ones each time; words and line ends fall on the borders of pieces."""
    dice = random.Random(size)
    return bytes(dice.choices(b"ab \n\t\r", k=size))


class Counted(FileStorage):
    """Counts the bytes that are read."""

    def __init__(self, storage: FileStorage) -> None:
        self._inner = storage
        self.bytes_read = 0

    async def size(self, key: str) -> int | None:
        return await self._inner.size(key)

    async def read(self, key: str, start: int, length: int) -> bytes:
        piece = await self._inner.read(key, start, length)
        self.bytes_read += len(piece)
        return piece


async def found(services: FileServices, content: bytes, content_type: str) -> FileMetadata:
    owner = caller()
    command = asked_by(owner, await services.create_file(owner, content, content_type=content_type))
    await services.processing.verify_checksum(command, ignore_progress)
    return await services.processing.extract_metadata(command, ignore_progress)


@pytest.mark.usefixtures("any_database")
class TestProcessing:
    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP"])
    async def test_extracts_dimensions_and_format_of_an_image(self, services: FileServices, kind: str) -> None:
        drawn = io.BytesIO()
        Image.new("RGB", (31, 17), "teal").save(drawn, kind)
        metadata = await found(services, drawn.getvalue(), f"image/{kind.lower()}")
        assert metadata == ImageMetadata(width=31, height=17, format=kind)

    async def test_extracts_size_and_type_of_other_and_unreadable_files(self, services: FileServices) -> None:
        content = bytes(range(256))
        assert await found(services, content, "application/octet-stream") == OtherMetadata(
            size=256, type="application/octet-stream"
        )
        broken = b"\x89PNG\r\n\x1a\n" + content
        assert await found(services, broken, "image/png") == OtherMetadata(size=len(broken), type="image/png")

    async def test_counts_lines_and_words_of_a_text(self, services: FileServices) -> None:
        assert await found(services, "Grüß Gott,\nWelt!\n".encode(), "text/plain") == TextMetadata(
            lines=2, words=3, bytes=19
        )
        assert await found(services, b"", "text/plain") == TextMetadata(lines=0, words=0, bytes=0)

    async def test_detects_changed_bytes_in_storage(self, services: FileServices) -> None:
        owner = caller()
        command = asked_by(owner, await services.create_file(owner, words(3 * BLOCK_BYTES)))
        key = storage_key(command.tenant_id, command.file_id)
        await services.storage.save(key, in_chunks(words(3 * BLOCK_BYTES)[:-1] + b"!"))
        with pytest.raises(FileCorrupted):
            await services.processing.verify_checksum(command, ignore_progress)
        await services.storage.remove(key)
        with pytest.raises(FileCorrupted):
            await services.processing.verify_checksum(command, ignore_progress)

    async def test_retry_reads_only_the_remaining_blocks(self, services: FileServices) -> None:
        owner, size = caller(), 5 * BLOCK_BYTES + 17
        command = asked_by(owner, await services.create_file(owner, words(size)))
        counted = Counted(services.storage)
        processing = ProcessingService(counted)
        heard: list[StepHeartbeat] = []
        await processing.verify_checksum(command, heard.append)
        whole = await processing.extract_metadata(command, heard.append)
        assert counted.bytes_read == 2 * size
        for said in heard:
            counted.bytes_read = 0
            again: list[StepHeartbeat] = []
            if isinstance(said, ChecksumProgress):
                await processing.verify_checksum(command, again.append, resume_from=said)
                assert counted.bytes_read == max(0, size - said.chunks * chunk_bytes_for(size))
            else:
                since = TextProgress.model_validate(said.model_dump())
                assert await processing.extract_metadata(command, again.append, resume_from=since) == whole
                assert counted.bytes_read == size - since.offset
            assert [said, *again][-1].fraction == 1.0

    async def test_retry_never_reports_less_progress_than_before(self, services: FileServices) -> None:
        owner = caller()
        command = asked_by(owner, await services.create_file(owner, words(5 * BLOCK_BYTES)))
        heard: list[StepHeartbeat] = []
        await services.processing.verify_checksum(
            command, heard.append, resume_from=ChecksumProgress(fraction=0.7, chunks=1)
        )
        assert [each.fraction for each in heard if isinstance(each, ChecksumProgress)] == [
            *[0.7] * 4,
            *[0.8] * 2,
            *[1.0] * 2,
        ]

    async def test_invisible_file_is_not_found(self, services: FileServices) -> None:
        owner = caller()
        file_id = await services.create_file(owner, b"mine")
        colleague, admin = caller(owner.tenant_id), caller(owner.tenant_id, Role.ADMIN)
        assert await services.processing.extract_metadata(asked_by(admin, file_id), ignore_progress)
        for command in (
            asked_by(colleague, file_id),
            asked_by(caller(role=Role.ADMIN), file_id),
            asked_by(owner, new_id("fil")),
            asked_by(owner, "\0"),
        ):
            with pytest.raises(FileNotFound):
                await services.processing.verify_checksum(command, ignore_progress)
            with pytest.raises(FileNotFound):
                await services.processing.extract_metadata(command, ignore_progress)

    async def test_metadata_is_published_once_and_undone_once(self, services: FileServices) -> None:
        owner = caller()
        file_id = await services.create_file(owner, b"one two", access_level=AccessLevel.TENANT)
        before = await rows()
        publication = MetadataPublication(
            key="op1:publish",
            file_id=file_id,
            tenant_id=owner.tenant_id or "",
            metadata=TextMetadata(lines=1, words=2, bytes=7),
        )
        for _ in range(2):
            await services.processing.publish_metadata(publication)
        [file] = await services.files.get_files(owner, [file_id])
        assert file.metadata == publication.metadata
        for _ in range(2):
            await services.processing.undo_publish_metadata("op1:publish")
        assert await rows() == before
        with pytest.raises(StepAlreadyUndone):
            await services.processing.publish_metadata(publication)

    async def test_undo_keeps_metadata_that_was_published_later(self, services: FileServices) -> None:
        owner = caller()
        file_id = await services.create_file(owner, b"one two")
        for key, count in (("op1:publish", 1), ("op2:publish", 2)):
            await services.processing.publish_metadata(
                MetadataPublication(
                    key=key,
                    file_id=file_id,
                    tenant_id=owner.tenant_id or "",
                    metadata=TextMetadata(lines=1, words=count, bytes=7),
                )
            )
        await services.processing.undo_publish_metadata("op1:publish")
        [file] = await services.files.get_files(owner, [file_id])
        assert file.metadata == TextMetadata(lines=1, words=2, bytes=7)

    async def test_metadata_of_a_foreign_file_is_not_published(self, services: FileServices) -> None:
        file_id = await services.create_file(caller(), b"one two")
        other = MetadataPublication(
            key="op:publish",
            file_id=file_id,
            tenant_id=new_id("ten"),
            metadata=OtherMetadata(size=1, type="a/b"),
        )
        with pytest.raises(FileNotFound):
            await services.processing.publish_metadata(other)
        assert (await models.File.get(id=file_id)).metadata is None


@pytest.mark.parametrize("size", [1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 5])
async def test_counts_do_not_depend_on_block_boundaries(storage: FileStorage, size: int) -> None:
    content = words(size)
    await storage.save("k", in_chunks(content))
    lines = content.count(b"\n") + (not content.endswith(b"\n"))
    assert await count_text(storage, "k", size, ignore_progress) == TextMetadata(
        lines=lines, words=len(content.split()), bytes=size
    )


def test_file_has_at_most_256_chunks() -> None:
    for size in (0, 1, BLOCK_BYTES, 256 * BLOCK_BYTES, 256 * BLOCK_BYTES + 1, 5 * 1024**3):
        chunk_bytes = chunk_bytes_for(size)
        assert chunk_bytes % BLOCK_BYTES == 0
        assert chunk_bytes * 256 >= size
