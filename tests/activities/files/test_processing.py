"""What processing finds in files, how far it says it is, and that it goes on where an earlier try stopped."""

from __future__ import annotations

import io
import random

import pytest
from PIL import Image

from activities.files import models
from activities.files.file_analysis import PIECE_BYTES, chunk_bytes_for, count_text
from activities.files.processing import ProcessingService
from contracts.auth import Role
from contracts.base import new_id
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
from contracts.service_tokens import Caller
from infrastructure.storage import FileStorage, storage_key
from tests.activities.files.file_fixtures import Desk, caller, in_pieces, rows, unheard


def asked_by(viewer: Caller, file_id: str) -> ProcessFileCommand:
    return ProcessFileCommand(
        file_id=file_id,
        tenant_id=viewer.tenant_id or "",
        user_id=viewer.user_id or "",
        administers="operations:administer" in viewer.permissions,
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


async def found(desk: Desk, content: bytes, content_type: str) -> FileMetadata:
    owner = caller()
    command = asked_by(owner, await desk.keep(owner, content, content_type=content_type))
    await desk.processing.verify_checksum(command, unheard)
    return await desk.processing.extract_metadata(command, unheard)


@pytest.mark.usefixtures("opened")
class TestProcessing:
    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP"])
    async def test_tells_an_images_width_height_and_format(self, desk: Desk, kind: str) -> None:
        drawn = io.BytesIO()
        Image.new("RGB", (31, 17), "teal").save(drawn, kind)
        metadata = await found(desk, drawn.getvalue(), f"image/{kind.lower()}")
        assert metadata == ImageMetadata(width=31, height=17, format=kind)

    async def test_tells_size_and_type_of_all_else_and_of_a_picture_that_cannot_be_read(self, desk: Desk) -> None:
        content = bytes(range(256))
        assert await found(desk, content, "application/octet-stream") == OtherMetadata(
            size=256, type="application/octet-stream"
        )
        broken = b"\x89PNG\r\n\x1a\n" + content
        assert await found(desk, broken, "image/png") == OtherMetadata(size=len(broken), type="image/png")

    async def test_counts_a_text(self, desk: Desk) -> None:
        assert await found(desk, "Grüß Gott,\nWelt!\n".encode(), "text/plain") == TextMetadata(
            lines=2, words=3, bytes=19
        )
        assert await found(desk, b"", "text/plain") == TextMetadata(lines=0, words=0, bytes=0)

    async def test_finds_bytes_that_changed_in_the_store(self, desk: Desk) -> None:
        owner = caller()
        command = asked_by(owner, await desk.keep(owner, words(3 * PIECE_BYTES)))
        key = storage_key(command.tenant_id, command.file_id)
        await desk.storage.save(key, in_pieces(words(3 * PIECE_BYTES)[:-1] + b"!"))
        with pytest.raises(FileCorrupted):
            await desk.processing.verify_checksum(command, unheard)
        await desk.storage.remove(key)
        with pytest.raises(FileCorrupted):
            await desk.processing.verify_checksum(command, unheard)

    async def test_a_new_try_reads_only_what_is_left(self, desk: Desk) -> None:
        owner, size = caller(), 5 * PIECE_BYTES + 17
        command = asked_by(owner, await desk.keep(owner, words(size)))
        counted = Counted(desk.storage)
        processing = ProcessingService(counted)
        heard: list[StepHeartbeat] = []
        await processing.verify_checksum(command, heard.append)
        whole = await processing.extract_metadata(command, heard.append)
        assert counted.bytes_read == 2 * size
        for said in heard:
            counted.bytes_read = 0
            again: list[StepHeartbeat] = []
            if isinstance(said, ChecksumProgress):
                await processing.verify_checksum(command, again.append, since=said)
                assert counted.bytes_read == max(0, size - said.chunks * chunk_bytes_for(size))
            else:
                since = TextProgress.model_validate(said.model_dump())
                assert await processing.extract_metadata(command, again.append, since=since) == whole
                assert counted.bytes_read == size - since.offset
            assert [said, *again][-1].fraction == 1.0

    async def test_a_new_try_that_reads_a_part_again_says_no_less_than_the_one_before(self, desk: Desk) -> None:
        owner = caller()
        command = asked_by(owner, await desk.keep(owner, words(5 * PIECE_BYTES)))
        heard: list[StepHeartbeat] = []
        await desk.processing.verify_checksum(command, heard.append, since=ChecksumProgress(fraction=0.7, chunks=1))
        assert [each.fraction for each in heard if isinstance(each, ChecksumProgress)] == [
            *[0.7] * 4,
            *[0.8] * 2,
            *[1.0] * 2,
        ]

    async def test_a_file_that_the_user_may_not_see_is_not_found(self, desk: Desk) -> None:
        owner = caller()
        file_id = await desk.keep(owner, b"mine")
        colleague, admin = caller(owner.tenant_id), caller(owner.tenant_id, Role.ADMIN)
        assert await desk.processing.extract_metadata(asked_by(admin, file_id), unheard)
        for command in (
            asked_by(colleague, file_id),
            asked_by(caller(role=Role.ADMIN), file_id),
            asked_by(owner, new_id("fil")),
            asked_by(owner, "\0"),
        ):
            with pytest.raises(FileNotFound):
                await desk.processing.verify_checksum(command, unheard)
            with pytest.raises(FileNotFound):
                await desk.processing.extract_metadata(command, unheard)

    async def test_what_was_published_is_shown_once_and_taken_back_once(self, desk: Desk) -> None:
        owner = caller()
        file_id = await desk.keep(owner, b"one two", access_level=AccessLevel.TENANT)
        before = await rows()
        publication = MetadataPublication(
            key="op1:publish",
            file_id=file_id,
            tenant_id=owner.tenant_id or "",
            metadata=TextMetadata(lines=1, words=2, bytes=7),
        )
        for _ in range(2):
            await desk.processing.publish_metadata(publication)
        [file] = await desk.files.get_files(owner, [file_id])
        assert file.metadata == publication.metadata
        for _ in range(2):
            await desk.processing.withdraw_metadata("op1:publish")
        assert await rows() == before
        with pytest.raises(StepAlreadyUndone):
            await desk.processing.publish_metadata(publication)

    async def test_an_undo_leaves_alone_what_was_published_since(self, desk: Desk) -> None:
        owner = caller()
        file_id = await desk.keep(owner, b"one two")
        for key, count in (("op1:publish", 1), ("op2:publish", 2)):
            await desk.processing.publish_metadata(
                MetadataPublication(
                    key=key,
                    file_id=file_id,
                    tenant_id=owner.tenant_id or "",
                    metadata=TextMetadata(lines=1, words=count, bytes=7),
                )
            )
        await desk.processing.withdraw_metadata("op1:publish")
        [file] = await desk.files.get_files(owner, [file_id])
        assert file.metadata == TextMetadata(lines=1, words=2, bytes=7)

    async def test_nothing_is_published_for_a_file_of_another_tenant(self, desk: Desk) -> None:
        file_id = await desk.keep(caller(), b"one two")
        other = MetadataPublication(
            key="op:publish",
            file_id=file_id,
            tenant_id=new_id("ten"),
            metadata=OtherMetadata(size=1, type="a/b"),
        )
        with pytest.raises(FileNotFound):
            await desk.processing.publish_metadata(other)
        assert (await models.File.get(id=file_id)).metadata is None


@pytest.mark.parametrize("size", [1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES + 5])
async def test_words_and_lines_are_counted_alike_however_pieces_cut_them(storage: FileStorage, size: int) -> None:
    content = words(size)
    await storage.save("k", in_pieces(content))
    lines = content.count(b"\n") + (not content.endswith(b"\n"))
    assert await count_text(storage, "k", size, unheard) == TextMetadata(
        lines=lines, words=len(content.split()), bytes=size
    )


def test_a_file_has_256_chunks_at_most() -> None:
    for size in (0, 1, PIECE_BYTES, 256 * PIECE_BYTES, 256 * PIECE_BYTES + 1, 5 * 1024**3):
        chunk_bytes = chunk_bytes_for(size)
        assert chunk_bytes % PIECE_BYTES == 0
        assert chunk_bytes * 256 >= size
