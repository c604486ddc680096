"""Where the bytes of files lie: a folder, or S3 and what speaks it."""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import obstore
from obstore.exceptions import BaseError as StorageError
from obstore.store import LocalStore, S3Store

from infrastructure.startup import usable_folder

if TYPE_CHECKING:  # these are types only: obstore does not have them when it runs
    from _typeshed import WriteableBuffer as Buffer
    from obstore.store import ClientConfig, RetryConfig, S3Config

__all__ = [
    "FileStorage",
    "StorageError",
    "default_storage_url",
    "open_storage",
    "staging_key",
    "storage_key",
    "validate_storage_url",
]

_PART_BYTES = 5 * 1024 * 1024
_PARTS_AT_ONCE = 2
_RANGE_BYTES = 8 * 1024 * 1024
_CHUNK_BYTES = 64 * 1024
_STAGING = "staging"
_CLIENT: ClientConfig = {"connect_timeout": timedelta(seconds=5), "timeout": timedelta(minutes=10)}
"""A copy of 5 GiB within S3 is one request."""
_RETRY: RetryConfig = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}
"""Little: whoever calls tries again itself."""


def storage_key(tenant_id: str, file_id: str) -> str:
    """``tenant/uuid``: where a file's bytes lie. Never a user's words."""
    return f"{tenant_id}/{_uuid(file_id)}"


def staging_key(tenant_id: str, upload_id: str) -> str:
    """``staging/tenant/uuid``: where an upload's bytes lie until an operation makes a file of them."""
    return f"{_STAGING}/{tenant_id}/{_uuid(upload_id)}"


def _uuid(thing_id: str) -> UUID:
    return UUID(thing_id.rpartition("_")[2])


class FileStorage:
    """Objects by key. What is not there is None or, where it must be there, FileNotFoundError; all else is trouble.

    Only the gateway and the services use it: clients never reach the storage, so that every rule for their bytes is
    enforced in one way, whatever the storage is.
    """

    def __init__(self, store: LocalStore | S3Store) -> None:
        self._store = store

    async def save(self, key: str, pieces: AsyncIterator[bytes]) -> None:
        """Write the pieces as they come, a few MiB at once in memory. An error of theirs leaves no object behind."""
        await obstore.put_async(self._store, key, pieces, chunk_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE)

    async def size(self, key: str) -> int | None:
        """In bytes."""
        try:
            return (await obstore.head_async(self._store, key))["size"]
        except FileNotFoundError:
            return None

    async def read(self, key: str, start: int, length: int) -> bytes:
        """Bytes from ``start``: ``length`` of them, or as many as there are. ``start`` lies within the object."""
        return bytes(await obstore.get_range_async(self._store, key, start=start, length=length))

    async def stream(self, key: str, size: int) -> AsyncGenerator[bytes]:
        """Yield the ``size`` bytes of an object in chunks of about 64 KiB, read from the storage as they are taken.

        It is asked for 8 MiB at a time: a slow client takes these within the deadline of one request.
        """
        for start in range(0, size, _RANGE_BYTES):
            end = min(start + _RANGE_BYTES, size)
            found = await obstore.get_async(self._store, key, options={"range": (start, end)})
            async for chunk in found.stream(min_chunk_size=_CHUNK_BYTES):
                yield bytes(chunk)

    def open(self, key: str, size: int) -> BinaryIO:
        """A seekable, blocking reader, for a thread. It fetches what is read and a little more."""
        return io.BufferedReader(_ObjectReader(self._store, key, size), buffer_size=64 * 1024)

    async def copy(self, source: str, target: str) -> None:
        await obstore.copy_async(self._store, source, target)

    async def remove(self, key: str) -> None:
        """Harmless where there is nothing."""
        with suppress(FileNotFoundError):
            await obstore.delete_async(self._store, key)

    async def staged(self, *, before: datetime) -> AsyncIterator[str]:
        """Keys of staged objects that have lain there since ``before``."""
        async for batch in obstore.list(self._store, _STAGING):
            for item in batch:
                if item["last_modified"] < before:
                    yield item["path"]

    def remove_broken_parts(self, *, before: datetime) -> int:
        """Blocking. What a process that died while it wrote into a folder left there, which no listing shows; how many.

        S3 keeps its own (incomplete multipart uploads), for which a bucket has a lifecycle rule.
        """
        if not isinstance(self._store, LocalStore) or self._store.prefix is None:
            return 0
        removed = 0
        folder = Path(self._store.prefix)
        for path in (*folder.glob(f"{_STAGING}/*/*#*"), *folder.glob("*/*#*")):  # of what was sent, and of copies
            with suppress(FileNotFoundError):
                if datetime.fromtimestamp(path.stat().st_mtime, UTC) < before:
                    path.unlink()
                    removed += 1
        return removed


class _ObjectReader(io.RawIOBase):
    def __init__(self, store: LocalStore | S3Store, key: str, size: int) -> None:
        self._store = store
        self._key = key
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer)
        length = min(len(view), self._size - self._at)
        if length <= 0:
            return 0
        found = memoryview(obstore.get_range(self._store, self._key, start=self._at, length=length))
        view[: len(found)] = found
        self._at += len(found)
        return len(found)


def default_storage_url(data_dir: Path) -> str:
    """The address of the storage where nobody names another: a folder, which the edge and the files service share."""
    return f"file://{data_dir.absolute() / 'files'}"


def validate_storage_url(url: str) -> str:
    """The address again, which ``open_storage`` can open as far as one can see. ValueError where it names none."""
    parts = urlsplit(url)
    if parts.scheme in ("", "file"):
        return url
    if parts.scheme != "s3" or not parts.netloc:
        raise ValueError(f"STORAGE_URL names neither a folder (file:///path) nor a bucket (s3://bucket): {url}")
    if unknown := parse_qs(parts.query).keys() - {"endpoint", "region"}:
        raise ValueError(f"STORAGE_URL has options nobody knows: {', '.join(sorted(unknown))}")
    return url


def open_storage(url: str) -> FileStorage:
    """The storage that ``STORAGE_URL`` names. ValueError where it names none; FolderUnusable.

    - ``file:///path`` or a plain path: a folder, made where it is missing.
    - ``s3://bucket[/prefix][?endpoint=URL][&region=NAME]``: S3, its credentials from the AWS variables. ``endpoint``
      names another server that implements S3; only our own processes have to reach it.
    """
    parts = urlsplit(validate_storage_url(url))
    if parts.scheme in ("", "file"):
        return FileStorage(LocalStore(usable_folder(Path(parts.path).resolve(), "STORAGE_URL or DATA_DIR")))
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    store = _s3(parts.netloc, parts.path.strip("/"), options.get("endpoint"), options.get("region"))
    return FileStorage(store)


def _s3(bucket: str, prefix: str, endpoint: str | None, region: str | None) -> S3Store:
    config: S3Config = {}
    client: ClientConfig = {**_CLIENT}
    if region is not None:
        config["region"] = region
    if endpoint is not None:
        config["endpoint"] = endpoint
        config["virtual_hosted_style_request"] = False
        client["allow_http"] = endpoint.startswith("http://")
    return S3Store(bucket, prefix=prefix or None, config=config, client_options=client, retry_config=_RETRY)
