"""Analysis of stored files in blocks of 1 MiB: checksums, counts of lines and words, and dimensions of images."""

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
from infrastructure.tasks import delay_cancellation, supervised

BLOCK_BYTES = 1024 * 1024
_MAX_CHUNKS = 256
_HEARTBEAT_INTERVAL_SECONDS = 1.0
_WHITESPACE = b" \t\n\v\f\r"
_IMAGE_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "ICO")

ReportProgress = Callable[[StepHeartbeat], None]
"""Sends a heartbeat with the progress of a step; may be called often."""


@dataclass(frozen=True)
class Checksums:
    """SHA-256 digests in lower-case hex: of the whole file, and of its consecutive chunks of ``chunk_bytes`` bytes."""

    whole: str
    chunk_bytes: int
    chunks: tuple[str, ...]


def chunk_bytes_for(size: int) -> int:
    """Return the size of the chunks of a file of ``size`` bytes: a multiple of 1 MiB, for at most 256 chunks."""
    return BLOCK_BYTES * max(1, -(-size // (_MAX_CHUNKS * BLOCK_BYTES)))


async def checksums(
    storage: FileStorage, key: str, size: int, report: ReportProgress, *, min_fraction: float = 0.0
) -> Checksums:
    """Compute the checksums of a stored object in one pass.

    The state of a SHA-256 computation cannot be saved, so a retry reads from the start.

    Args:
        storage: the storage of the object.
        key: the key of the object.
        size: the size of the object in bytes.
        report: receives the progress.
        min_fraction: the progress (0 to 1) that an earlier attempt has reported; less is not reported.

    Raises:
        FileNotFoundError: the object does not exist.
        FileCorrupted: the object has fewer than ``size`` bytes.
    """
    chunk_bytes = chunk_bytes_for(size)
    whole, chunks = hashlib.sha256(), []
    for start in range(0, size, chunk_bytes):
        chunk = hashlib.sha256()
        async for block, end in read_blocks(storage, key, start, min(start + chunk_bytes, size)):
            await asyncio.to_thread(_hash_both, whole, chunk, block)
            report(StepHeartbeat(fraction=max(min_fraction, end / size)))
        chunks.append(chunk.hexdigest())
    return Checksums(whole.hexdigest(), chunk_bytes, tuple(chunks))


async def count_text(
    storage: FileStorage, key: str, size: int, report: ReportProgress, *, resume_from: TextProgress | None = None
) -> TextMetadata:
    """Count the lines and words of a stored text, starting at the progress of an earlier attempt (``resume_from``).

    Raises:
        FileNotFoundError: the object does not exist.
        FileCorrupted: the object has fewer than ``size`` bytes.
    """
    done = resume_from or TextProgress()
    async for block, end in read_blocks(storage, key, done.offset, size):
        lines, words = await asyncio.to_thread(_count, block)
        joins = done.in_word and block[0] not in _WHITESPACE
        done = TextProgress(
            fraction=end / size,
            offset=end,
            lines=done.lines + lines,
            words=done.words + words - joins,
            in_word=block[-1] not in _WHITESPACE,
            in_line=block[-1:] != b"\n",
        )
        report(done)
    return TextMetadata(lines=done.lines + done.in_line, words=done.words, bytes=size)


async def image_metadata(storage: FileStorage, key: str, size: int) -> ImageMetadata | None:
    """Return the dimensions and the format from an image's header; None if Pillow cannot read it."""
    return await asyncio.to_thread(_read_image_header, storage, key, size)


async def with_heartbeats(work: Coroutine[None, None, None], report: ReportProgress, heartbeat: StepHeartbeat) -> None:
    """Await work that does not report its progress, and send the same heartbeat every second until it ends.

    If the caller is cancelled, the work is still awaited to its end: otherwise the storage could complete a copy after
    the undo of the step.
    """

    async def send_heartbeats() -> None:
        while True:
            await asyncio.sleep(_HEARTBEAT_INTERVAL_SECONDS)
            report(heartbeat)

    async with supervised(send_heartbeats, name="heartbeats of a step"):
        await delay_cancellation(work, name="work of a step")


async def read_blocks(storage: FileStorage, key: str, start: int, end: int) -> AsyncIterator[tuple[bytes, int]]:
    """Yield the bytes from ``start`` to ``end`` in blocks of 1 MiB, each with the offset after the block.

    Raises:
        FileNotFoundError: the object does not exist.
        FileCorrupted: the object ends before ``end``.
    """
    while start < end:
        block = await storage.read(key, start, min(BLOCK_BYTES, end - start))
        if not block:
            raise FileCorrupted()
        start += len(block)
        yield block, start


def _hash_both(whole: hashlib._Hash, chunk: hashlib._Hash, block: bytes) -> None:
    whole.update(block)
    chunk.update(block)


def _count(block: bytes) -> tuple[int, int]:
    return block.count(b"\n"), len(block.split())


def _read_image_header(storage: FileStorage, key: str, size: int) -> ImageMetadata | None:
    try:
        with storage.open(key, size) as file, Image.open(file, formats=_IMAGE_FORMATS) as image:
            return ImageMetadata(width=image.width, height=image.height, format=image.format or "")
    except OSError as error:
        if error.errno is not None:  # an error of the storage, not of the image
            raise
        return None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, SyntaxError, ValueError):
        return None
