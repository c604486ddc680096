"""Storage for the contents of files: a local folder, or S3 or a compatible object store."""

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

from infrastructure.startup_errors import ensure_writable_folder

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
_MAX_CONCURRENT_PARTS = 2
_RANGE_BYTES = 8 * 1024 * 1024
_CHUNK_BYTES = 64 * 1024
_STAGING = "staging"
_CLIENT: ClientConfig = {"connect_timeout": timedelta(seconds=5), "timeout": timedelta(minutes=10)}
"""The timeout is long because S3 copies an object of up to 5 GiB within one request."""
_RETRY: RetryConfig = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}
"""Few retries, because the callers (activities, the repair) retry themselves."""


def storage_key(tenant_id: str, file_id: str) -> str:
    """Return the key of a file's content, ``tenant/uuid``. A key never contains text that a user entered."""
    return f"{tenant_id}/{_uuid(file_id)}"


def staging_key(tenant_id: str, upload_id: str) -> str:
    """Return the key of uploaded bytes that are not a file yet, ``staging/tenant/uuid``."""
    return f"{_STAGING}/{tenant_id}/{_uuid(upload_id)}"


def _uuid(id: str) -> UUID:
    return UUID(id.rpartition("_")[2])


class FileStorage:
    """Reads and writes objects by key.

    Methods raise FileNotFoundError for a missing object unless they say otherwise, and StorageError for other failures.
    Only the gateway and the services access the storage, never clients: so the same rules are enforced for each kind
    of storage.
    """

    def __init__(self, store: LocalStore | S3Store) -> None:
        self._store = store

    async def save(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        """Write the chunks to an object while they arrive; at most about 10 MiB are held in memory.

        Raises:
            Exception: The error of ``chunks``; no object is stored in this case.
        """
        await obstore.put_async(self._store, key, chunks, chunk_size=_PART_BYTES, max_concurrency=_MAX_CONCURRENT_PARTS)

    async def size(self, key: str) -> int | None:
        """Return the size of the object in bytes; None if it does not exist."""
        try:
            return (await obstore.head_async(self._store, key))["size"]
        except FileNotFoundError:
            return None

    async def read(self, key: str, start: int, length: int) -> bytes:
        """Return up to ``length`` bytes from the offset ``start``, which must lie within the object."""
        return bytes(await obstore.get_range_async(self._store, key, start=start, length=length))

    async def stream(self, key: str, size: int) -> AsyncGenerator[bytes]:
        """Yield the ``size`` bytes of an object in chunks of about 64 KiB, as fast as the caller consumes them.

        Each request to the storage reads 8 MiB, so that even a slow client receives them within the request's timeout.
        """
        for start in range(0, size, _RANGE_BYTES):
            end = min(start + _RANGE_BYTES, size)
            found = await obstore.get_async(self._store, key, options={"range": (start, end)})
            async for chunk in found.stream(min_chunk_size=_CHUNK_BYTES):
                yield bytes(chunk)

    def open(self, key: str, size: int) -> BinaryIO:
        """Return a seekable, blocking reader of the object for use in a thread. It reads ranges of at least 64 KiB."""
        return io.BufferedReader(_ObjectReader(self._store, key, size), buffer_size=64 * 1024)

    async def copy(self, source: str, target: str) -> None:
        """Copy an object to another key within the storage."""
        await obstore.copy_async(self._store, source, target)

    async def remove(self, key: str) -> None:
        """Delete the object if it exists."""
        with suppress(FileNotFoundError):
            await obstore.delete_async(self._store, key)

    async def staged(self, *, before: datetime) -> AsyncIterator[str]:
        """Yield the keys of staged objects that were last modified before the given time."""
        async for batch in obstore.list(self._store, _STAGING):
            for item in batch:
                if item["last_modified"] < before:
                    yield item["path"]

    def remove_incomplete_writes(self, *, before: datetime) -> int:
        """Delete temporary files of writes to a folder that were never completed, and return their number. Blocks.

        They remain when a process is killed while it writes, and no listing contains them. S3 has incomplete multipart
        uploads instead, which a lifecycle rule of the bucket removes.

        Args:
            before: Only files that were last modified before this time are deleted.
        """
        if not isinstance(self._store, LocalStore) or self._store.prefix is None:
            return 0
        removed = 0
        folder = Path(self._store.prefix)
        for path in (*folder.glob(f"{_STAGING}/*/*#*"), *folder.glob("*/*#*")):  # of uploads, and of copies
            with suppress(FileNotFoundError):
                if datetime.fromtimestamp(path.stat().st_mtime, UTC) < before:
                    path.unlink()
                    removed += 1
        return removed


class _ObjectReader(io.RawIOBase):
    """A blocking, seekable reader that reads each range with one request."""

    def __init__(self, store: LocalStore | S3Store, key: str, size: int) -> None:
        self._store = store
        self._key = key
        self._size = size
        self._offset = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._offset

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._offset = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._offset, io.SEEK_END: self._size}[whence]
        return self._offset

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer)
        length = min(len(view), self._size - self._offset)
        if length <= 0:
            return 0
        found = memoryview(obstore.get_range(self._store, self._key, start=self._offset, length=length))
        view[: len(found)] = found
        self._offset += len(found)
        return len(found)


def default_storage_url(data_dir: Path) -> str:
    """Return the default of ``STORAGE_URL``: a folder in ``data_dir`` that the gateway and the files service share."""
    return f"file://{data_dir.absolute() / 'files'}"


def validate_storage_url(url: str) -> str:
    """Return the URL unchanged if ``open_storage`` supports it; the storage itself is not accessed.

    Raises:
        ValueError: The URL names neither a folder nor a bucket, or has unknown options.
    """
    parts = urlsplit(url)
    if parts.scheme in ("", "file"):
        return url
    if parts.scheme != "s3" or not parts.netloc:
        raise ValueError(f"STORAGE_URL names neither a folder (file:///path) nor a bucket (s3://bucket): {url}")
    if unknown := parse_qs(parts.query).keys() - {"endpoint", "region"}:
        raise ValueError(f"STORAGE_URL has unknown options: {', '.join(sorted(unknown))}")
    return url


def open_storage(url: str) -> FileStorage:
    """Return the storage with this URL.

    - ``file:///path`` or a plain path: a folder, which is created if it does not exist.
    - ``s3://bucket[/prefix][?endpoint=URL][&region=NAME]``: S3, with credentials from the AWS environment variables.
      ``endpoint`` is the URL of another server that implements S3; only the gateway and the services have to reach it.

    Raises:
        ValueError: The URL is invalid.
        FolderUnusable: The folder cannot be created or written to.
    """
    parts = urlsplit(validate_storage_url(url))
    if parts.scheme in ("", "file"):
        return FileStorage(LocalStore(ensure_writable_folder(Path(parts.path).resolve(), "STORAGE_URL or DATA_DIR")))
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
