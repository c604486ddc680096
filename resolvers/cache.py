"""Copies of what services said, in the cache that processes share: fetched once for all who ask, outdated by changes.

A copy's key carries a stamp of what it depends on. A change replaces the stamp, so that no copy made before it, nor one
that is being made just now, is found again; what nobody finds any more expires. Who fetches claims the key first with
SET NX and an expiry, which is how redis-py's own lock keeps the others out (aiocache's RedLock keeps out nobody): the
others wait for the copy, and claim it themselves should the claim expire.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Generic, Self, TypeVar
from uuid import uuid4

import structlog
from aiocache.base import BaseCache
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from redis.exceptions import RedisError

from contracts.base import utc_now
from infrastructure.batching import Batching
from infrastructure.single_flight import SingleFlight
from resolvers.deadlines import deadline
from resolvers.sealing import Seal

FRESH_SECONDS = 30
"""How long a copy is shown at most."""
CLAIM_SECONDS = 6
"""How long one process may fetch alone: longer than any call of a service takes."""
STAMP_SECONDS = 90
"""Longer than a fetch and its copy together, or an old copy would be found again."""
ANSWER_SECONDS = 0.5
"""A cache that is slower than this is done without for a moment."""
AWAY_SECONDS = 1.0
CACHE_IS_AWAY = (RedisError, OSError, asyncio.TimeoutError)

CLAIMED = "claimed"
"""What stands in the place of a copy that is being fetched."""
_LOOK_SECONDS = 0.02
_MAX_BATCH_SIZE = 500
_NO_STAMP = "0"

Value = TypeVar("Value")

log = structlog.get_logger()


class Copy(BaseModel, Generic[Value]):
    """What was fetched, and when."""

    model_config = ConfigDict(frozen=True)

    fetched_at: datetime
    value: Value


class _Away(Exception):
    """The cache does not answer."""


class Copies:
    """All copies that one process makes. Closing it ends the fetches under way.

    They hold names and addresses: with a ``seal`` whoever reads the cache reads none of that.
    """

    def __init__(self, cache: BaseCache, *, answer_seconds: float = ANSWER_SECONDS, seal: Seal | None = None) -> None:
        self._cache = cache
        self._seal = seal
        self._answer_seconds = answer_seconds
        self._fetches: SingleFlight[Copy[Any]] = SingleFlight()
        self._reads: Batching[str] = Batching(self._read_all, max_batch_size=_MAX_BATCH_SIZE, max_concurrent=2)
        self._away_until = 0.0
        self.hits = self.misses = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._fetches.aclose()
        await self._reads.aclose()

    async def stamp(self, *scopes: str) -> str:
        """What the keys of copies carry that depend on all of these. Empty while the cache is away."""
        try:
            loading = [self._reads.load(_stamp_key(scope)) for scope in scopes]  # one batch
            stamps = [await each for each in loading]
        except _Away:
            return ""
        return ".".join(stamp or _NO_STAMP for stamp in stamps)

    async def changed(self, *scopes: str) -> None:
        """Outdate every copy that depends on one of these, in all processes."""
        self._away_until = 0.0  # worth a try
        stamp = uuid4().hex
        pairs = [(_stamp_key(scope), stamp) for scope in scopes]
        await self._ask(lambda: self._cache.multi_set(pairs, ttl=STAMP_SECONDS), None)

    async def at_hand(self, key: str, kind: TypeAdapter[Copy[Value]]) -> Copy[Value] | None:
        """The copy, where there is one."""
        copy = self._read(key, await self._text(key), kind)
        self.hits, self.misses = self.hits + (copy is not None), self.misses + (copy is None)
        return copy

    async def get(self, key: str, kind: TypeAdapter[Copy[Value]], fetch: Callable[[], Awaitable[Value]]) -> Copy[Value]:
        """The copy, or a new one, which is fetched to its end even if we stop waiting. Raises as ``fetch`` does."""
        copy = await self.at_hand(key, kind)
        if copy is not None:
            return copy
        return await self._fetches.run(key, lambda: self._fetch(key, kind, fetch))

    async def _fetch(
        self, key: str, kind: TypeAdapter[Copy[Value]], fetch: Callable[[], Awaitable[Value]]
    ) -> Copy[Value]:
        copy = await self._claim_or_wait(key, kind)
        if copy is not None:
            return copy
        try:
            copy = Copy(fetched_at=utc_now(), value=await fetch())
        except BaseException:
            await self._ask(lambda: self._cache.delete(key), None)  # or the others would wait for nothing
            raise
        text = self._written(key, kind.dump_json(copy).decode())
        await self._ask(lambda: self._cache.set(key, text, ttl=FRESH_SECONDS), None)
        return copy

    async def _claim_or_wait(self, key: str, kind: TypeAdapter[Copy[Value]]) -> Copy[Value] | None:
        """The copy that another process made meanwhile; None where it is for us to fetch."""
        while not await self._claim(key):
            text = await self._text(key)
            if text is not None and text != CLAIMED:
                return self._read(key, text, kind)  # None: another release wrote it, and it is replaced
            await asyncio.sleep(_LOOK_SECONDS)
        return None

    async def _claim(self, key: str) -> bool:
        async def claim() -> bool:
            try:
                await self._cache.add(key, CLAIMED, ttl=CLAIM_SECONDS)
            except ValueError:
                return False
            return True

        return await self._ask(claim, True)

    async def _text(self, key: str) -> str | None:
        try:
            return await self._reads.load(key)
        except _Away:
            return None

    async def _read_all(self, keys: Sequence[str]) -> dict[str, str]:
        """Of many who read at one moment; ``_Away`` while the cache is away."""
        texts: list[str | None] | None = await self._ask(lambda: self._cache.multi_get(keys, timeout=None), None)
        if texts is None:
            raise _Away()
        return {key: text for key, text in zip(keys, texts, strict=True) if text is not None}

    async def _ask(self, do: Callable[[], Awaitable[Value]], otherwise: Value) -> Value:
        """What the cache answers, or ``otherwise`` while it is away."""
        if time.monotonic() < self._away_until:
            return otherwise
        try:
            async with deadline(self._answer_seconds):
                return await do()
        except CACHE_IS_AWAY as error:
            self._away_until = time.monotonic() + AWAY_SECONDS
            log.warning("the cache does not answer", error=repr(error))
            return otherwise

    def _written(self, key: str, text: str) -> str:
        return text if self._seal is None else self._seal.close(text, place=key)

    def _read(self, key: str, text: str | None, kind: TypeAdapter[Copy[Value]]) -> Copy[Value] | None:
        if text is None or text == CLAIMED:
            return None
        plain = text if self._seal is None else self._seal.open(text, place=key)
        try:
            return None if plain is None else kind.validate_json(plain)
        except ValidationError:
            return None


def _stamp_key(scope: str) -> str:
    return f"changed:{scope}"
