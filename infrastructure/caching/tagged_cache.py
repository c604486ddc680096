"""A cache of loaded values that all processes share: each value is loaded once and is invalidated by tags.

The key of a value contains the versions of the tags on which the value depends. A change sets a new version of its
tag, so older values, and values that are being loaded at that moment, are not found any more; they expire. A process
that loads a value first claims the key (SET NX with an expiry). Other processes wait for the value, and claim the key
themselves if the claim expires.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from contracts.base import utc_now
from infrastructure.caching.batching import Batching
from infrastructure.caching.cache import Cache
from infrastructure.caching.single_flight import SingleFlight

VALUE_TTL_SECONDS = 30
"""Time after which a value expires."""
CLAIM_TTL_SECONDS = 6
"""Time after which another process may load a value: longer than the timeout of any call of a service."""
VERSION_TTL_SECONDS = 90
"""Lifetime of a tag's version: longer than a load and ``VALUE_TTL_SECONDS``, or older values would be found again."""

TAG_PREFIX = "cache:tag:"
"""Redis keys with this prefix hold the versions of tags."""
CLAIMED = "claimed"
"""The value of a key whose value is being loaded."""
_POLL_INTERVAL_SECONDS = 0.02
_MAX_BATCH_SIZE = 500
_NO_VERSION = "0"

Value = TypeVar("Value")


class CachedValue(BaseModel, Generic[Value]):
    """A value and the time at which it was loaded."""

    model_config = ConfigDict(frozen=True)

    fetched_at: datetime
    value: Value


class Encryption(Protocol):
    """Encrypts values, because they contain personal data."""

    def encrypt(self, text: str, *, associated_data: str) -> str:
        """Return the encrypted text, which can be decrypted only with the same associated data."""

    def decrypt(self, encrypted: str, *, associated_data: str) -> str | None:
        """Return the text; None if it was encrypted with another key or other associated data."""


class _Unavailable(Exception):
    """The cache is unavailable."""


class TaggedCache:
    """Reads and loads cached values for one process. Leaving its ``async with`` block cancels running loads.

    Args:
        cache: The cache that processes share.
        encryption: Encrypts the values; None stores them in plain text.
    """

    def __init__(self, cache: Cache, *, encryption: Encryption | None = None) -> None:
        self._cache = cache
        self._encryption = encryption
        self._loads: SingleFlight[CachedValue[Any]] = SingleFlight()
        self._reads: Batching[str] = Batching(self._read_many, max_batch_size=_MAX_BATCH_SIZE, max_concurrent=2)
        self.hits = self.misses = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._loads.aclose()
        await self._reads.aclose()

    async def version(self, *tags: str) -> str:
        """Return the combined version of the tags, for the keys of values that depend on all of them.

        It is empty while the cache is unavailable.
        """
        try:
            loading = [self._reads.load(_tag_key(tag)) for tag in tags]  # one batch
            versions = [await each for each in loading]
        except _Unavailable:
            return ""
        return ".".join(version or _NO_VERSION for version in versions)

    async def invalidate(self, *tags: str) -> None:
        """Invalidate every value that depends on one of these tags, in all processes."""
        version = uuid4().hex
        await self._cache.set_many(
            {_tag_key(tag): version for tag in tags}, ttl_seconds=VERSION_TTL_SECONDS, always=True
        )

    async def get(self, key: str, kind: TypeAdapter[CachedValue[Value]]) -> CachedValue[Value] | None:
        """Return the value if the cache has it, otherwise None."""
        value = self._decoded(key, await self._text(key), kind)
        self.hits, self.misses = self.hits + (value is not None), self.misses + (value is None)
        return value

    async def get_or_load(
        self, key: str, kind: TypeAdapter[CachedValue[Value]], load: Callable[[], Awaitable[Value]]
    ) -> CachedValue[Value]:
        """Return the value from the cache, or load and store it. The load continues if the caller is cancelled.

        Raises:
            Exception: The error of ``load``.
        """
        value = await self.get(key, kind)
        if value is not None:
            return value
        return await self._loads.run(key, lambda: self._load(key, kind, load))

    async def _load(
        self, key: str, kind: TypeAdapter[CachedValue[Value]], load: Callable[[], Awaitable[Value]]
    ) -> CachedValue[Value]:
        value = await self._claim_or_wait(key, kind)
        if value is not None:
            return value
        try:
            value = CachedValue(fetched_at=utc_now(), value=await load())
        except BaseException:
            await self._cache.delete(key)  # releases the claim
            raise
        text = self._encoded(key, kind.dump_json(value).decode())
        await self._cache.set_many({key: text}, ttl_seconds=VALUE_TTL_SECONDS)
        return value

    async def _claim_or_wait(self, key: str, kind: TypeAdapter[CachedValue[Value]]) -> CachedValue[Value] | None:
        """Claim the key and return None, or return the value that another process has loaded in the meantime."""
        while await self._cache.add(key, CLAIMED, ttl_seconds=CLAIM_TTL_SECONDS) is False:
            text = await self._text(key)
            if text is not None and text != CLAIMED:
                return self._decoded(key, text, kind)  # None: another release wrote the value, and it is replaced
            await asyncio.sleep(_POLL_INTERVAL_SECONDS)
        return None

    async def _text(self, key: str) -> str | None:
        try:
            return await self._reads.load(key)
        except _Unavailable:
            return None

    async def _read_many(self, keys: Sequence[str]) -> dict[str, str]:
        values = await self._cache.get_many(keys)
        if values is None:
            raise _Unavailable
        return values

    def _encoded(self, key: str, text: str) -> str:
        return text if self._encryption is None else self._encryption.encrypt(text, associated_data=key)

    def _decoded(self, key: str, text: str | None, kind: TypeAdapter[CachedValue[Value]]) -> CachedValue[Value] | None:
        if text is None or text == CLAIMED:
            return None
        plain = text if self._encryption is None else self._encryption.decrypt(text, associated_data=key)
        try:
            return None if plain is None else kind.validate_json(plain)
        except ValidationError:
            return None


def _tag_key(tag: str) -> str:
    return f"{TAG_PREFIX}{tag}"
