"""Reading stored bytes piece by piece: checksums, counts of a text, the size of an image."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass

from PIL import Image

from contracts.errors import FileCorrupted
from contracts.files import ImageMetadata, TextMetadata, TextProgress
from contracts.operations import StepHeartbeat
from infrastructure.storage import FileStorage
from infrastructure.tasks import finish_before_leaving, supervised

PIECE_BYTES = 1024 * 1024
_MOST_CHUNKS = 256
_REPORT_SECONDS = 1.0
_SPACE = b" \t\n\v\f\r"
_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "ICO")

Report = Callable[[StepHeartbeat], None]
"""Hears how far a step is. It may be called often."""


@dataclass(frozen=True)
class Checksums:
    """SHA-256, lower-case hex: of the whole, and of each ``chunk_bytes`` of it."""

    whole: str
    chunk_bytes: int
    chunks: tuple[str, ...]


def chunk_bytes_for(size: int) -> int:
    """Whole MiB, so that a file has at most 256 chunks."""
    return PIECE_BYTES * max(1, -(-size // (_MOST_CHUNKS * PIECE_BYTES)))


async def checksums(storage: FileStorage, key: str, size: int, report: Report, *, reached: float = 0.0) -> Checksums:
    """Read the object once. A SHA-256 under way cannot be put down and taken up again, so a new try reads from the
    start; it reports no less than what an earlier one ``reached``.

    FileNotFoundError where the object is missing, FileCorrupted where it ends before ``size``.
    """
    chunk_bytes = chunk_bytes_for(size)
    whole, chunks = hashlib.sha256(), []
    for start in range(0, size, chunk_bytes):
        chunk = hashlib.sha256()
        async for piece, end in read_chunks(storage, key, start, min(start + chunk_bytes, size)):
            await asyncio.to_thread(_hash_both, whole, chunk, piece)
            report(StepHeartbeat(fraction=max(reached, end / size)))
        chunks.append(chunk.hexdigest())
    return Checksums(whole.hexdigest(), chunk_bytes, tuple(chunks))


async def count_text(
    storage: FileStorage, key: str, size: int, report: Report, *, since: TextProgress | None = None
) -> TextMetadata:
    """Lines and words, from where an earlier try was."""
    done = since or TextProgress()
    async for piece, end in read_chunks(storage, key, done.offset, size):
        lines, words = await asyncio.to_thread(_count, piece)
        joins = done.in_word and piece[0] not in _SPACE
        done = TextProgress(
            fraction=end / size,
            offset=end,
            lines=done.lines + lines,
            words=done.words + words - joins,
            in_word=piece[-1] not in _SPACE,
            in_line=piece[-1:] != b"\n",
        )
        report(done)
    return TextMetadata(lines=done.lines + done.in_line, words=done.words, bytes=size)


async def image_metadata(storage: FileStorage, key: str, size: int) -> ImageMetadata | None:
    """From the image's header; its pixels are never unpacked. None where Pillow cannot read it."""
    return await asyncio.to_thread(_look_at_image, storage, key, size)


async def with_heartbeats(work: Coroutine[None, None, None], report: Report, now: StepHeartbeat) -> None:
    """Await work that cannot say how far it is, telling each second that it goes on.

    Cancelled, it still waits for the work's end: a store may finish a copy that nobody waits for, after its undo.
    """

    async def report_each_second() -> None:
        while True:
            await asyncio.sleep(_REPORT_SECONDS)
            report(now)

    async with supervised(report_each_second, name="report that a step goes on"):
        await finish_before_leaving(work, name="work that a step waits for")


async def read_chunks(storage: FileStorage, key: str, start: int, end: int) -> AsyncIterator[tuple[bytes, int]]:
    """The bytes from ``start`` to ``end``, a MiB at a time, each with the offset behind it."""
    while start < end:
        piece = await storage.read(key, start, min(PIECE_BYTES, end - start))
        if not piece:
            raise FileCorrupted()
        start += len(piece)
        yield piece, start


def _hash_both(whole: hashlib._Hash, chunk: hashlib._Hash, piece: bytes) -> None:
    whole.update(piece)
    chunk.update(piece)


def _count(piece: bytes) -> tuple[int, int]:
    return piece.count(b"\n"), len(piece.split())


def _look_at_image(storage: FileStorage, key: str, size: int) -> ImageMetadata | None:
    try:
        with storage.open(key, size) as file, Image.open(file, formats=_FORMATS) as image:
            return ImageMetadata(width=image.width, height=image.height, format=image.format or "")
    except OSError as error:
        if error.errno is not None:  # the storage's trouble, not the image's
            raise
        return None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, SyntaxError, ValueError):
        return None
