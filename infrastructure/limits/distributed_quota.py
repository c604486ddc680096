"""A concurrency quota that all processes at one Redis count together, by leases.

While Redis is unavailable each process goes on by its own count (local).

Each process writes into Redis how many it holds of a key, with an expiry, and renews that before it expires. So a
process's count returns after Redis has lost it, and what a killed process held is free once its lease has expired.
Requests are gathered and sent in one pipeline.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple, TypeAlias
from uuid import uuid4

import structlog
from redis.asyncio import Redis

from infrastructure.change_notifications import wait_for_event
from infrastructure.limits.quota import LocalQuota, Quota, QuotaKey, exhausted
from infrastructure.redis_policy import RedisPolicy
from infrastructure.tasks import supervised

LEASE_SECONDS = 60.0
_BATCH_SIZE = 500

# KEYS: the quota's key. ARGV: the process, how many it holds, how many more it wants, the limit, the lease in seconds.
# Answers with how many more it may hold. The time is Redis's, because the clocks of the processes differ.
_SCRIPT = """
local now = tonumber(redis.call('TIME')[1])
local held, wanted, limit, lease = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local others = 0
local leases = redis.call('HGETALL', KEYS[1])
for i = 1, #leases, 2 do
    local count, expiry = string.match(leases[i + 1], '^(%d+) (%d+)$')
    if leases[i] ~= ARGV[1] then
        if not expiry or tonumber(expiry) < now then
            redis.call('HDEL', KEYS[1], leases[i])
        else
            others = others + tonumber(count)
        end
    end
end
local more = math.max(0, math.min(wanted, limit - others - held))
if held + more > 0 then
    redis.call('HSET', KEYS[1], ARGV[1], string.format('%d %d', held + more, now + math.ceil(lease)))
    redis.call('PEXPIRE', KEYS[1], math.ceil(lease * 1000) + 1000)
else
    redis.call('HDEL', KEYS[1], ARGV[1])
end
return more
"""

log = structlog.get_logger()

_Answer: TypeAlias = "asyncio.Future[bool]"
"""Whether it was granted."""


class _Name(NamedTuple):
    kind: str
    owner_digest: str


class _Request(NamedTuple):
    limit: int
    answer: _Answer


class DistributedQuota:
    """One a process. ``secret`` keys the digests that stand for owners in Redis: addresses are personal data."""

    def __init__(
        self,
        redis: RedisPolicy,
        secret: bytes,
        *,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self._redis = redis
        self._secret = secret[:32]
        self._lease_seconds = lease_seconds
        self._process = uuid4().hex
        self._local = LocalQuota()
        self._held: Counter[_Name] = Counter()
        self._requests: dict[_Name, list[_Request]] = {}
        self._changed: set[_Name] = set()
        self._wakeup = asyncio.Event()

    @asynccontextmanager
    async def acquire(self, *keys: QuotaKey) -> AsyncIterator[None]:
        with self._local.hold(keys):
            names = await self._grants(keys)
            try:
                yield
            finally:
                self._release(names)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        try:
            async with supervised(self._run, name="renew quota leases"):
                yield
        finally:
            for requests in self._requests.values():
                _grant(requests, len(requests))
            names = [*self._held.keys() | self._changed]
            await self._redis.bypass(lambda redis: self._exchange(redis, names, {}), ())

    async def _grants(self, keys: Sequence[QuotaKey]) -> list[_Name]:
        """Have all keys granted, or none. Raises QuotaExhausted."""
        if not keys:
            return []
        names = [self._name(key) for key in keys]
        asked = [(name, self._request(name, key.limit)) for name, key in zip(names, keys, strict=True)]
        try:
            await asyncio.wait([answer for _, answer in asked])
        except asyncio.CancelledError:
            for _, answer in asked:
                answer.cancel()
            self._release(name for name, answer in asked if not answer.cancelled() and answer.result())
            raise
        granted = [name for name, answer in asked if answer.result()]
        if len(granted) == len(asked):
            return granted
        self._release(granted)
        raise exhausted()

    def _request(self, name: _Name, limit: int) -> _Answer:
        answer: _Answer = asyncio.get_running_loop().create_future()
        self._requests.setdefault(name, []).append(_Request(limit, answer))
        self._wakeup.set()
        return answer

    def _release(self, names: Iterable[_Name]) -> None:
        for name in names:
            self._held[name] -= 1
            self._changed.add(name)
            self._wakeup.set()

    def _name(self, key: QuotaKey) -> _Name:
        return _Name(key.kind, hashlib.blake2s(key.owner.encode(), key=self._secret, digest_size=12).hexdigest())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        renewed_at = loop.time()
        while True:
            await wait_for_event(self._wakeup, self._lease_seconds / 3)
            self._wakeup.clear()
            requests, self._requests = self._requests, {}
            changed, self._changed = self._changed, set()
            if loop.time() - renewed_at >= self._lease_seconds / 3:
                changed |= self._held.keys()
                renewed_at = loop.time()
            names = [*requests, *(changed - requests.keys())]
            for begin in range(0, len(names), _BATCH_SIZE):
                await self._answer(names[begin : begin + _BATCH_SIZE], requests)

    async def _answer(self, names: Sequence[_Name], requests: dict[_Name, list[_Request]]) -> None:
        async def by_own_count() -> Sequence[int | None]:
            return [None] * len(names)

        try:
            more = await self._redis.local(lambda redis: self._exchange(redis, names, requests), by_own_count)
        except Exception as error:
            log.error("quota_exchange_failed", exc_info=error)
            more = await by_own_count()
        except BaseException:  # the process stops: no request is left without an answer
            for unanswered in requests.values():
                _grant(unanswered, len(unanswered))
            raise
        for name, granted in zip(names, more, strict=True):
            asked = requests.get(name, ())
            allowed = len(asked) if granted is None else granted
            taken = _grant(asked, allowed)
            self._held[name] += taken
            if taken < allowed or granted is None:  # a requester has left, or Redis does not know the count yet
                self._changed.add(name)
            if not self._held[name]:
                del self._held[name]

    async def _exchange(
        self, redis: Redis, names: Sequence[_Name], requests: dict[_Name, list[_Request]]
    ) -> Sequence[int | None]:
        """Write this process's counts and return how many more it may hold of each."""
        script = redis.register_script(_SCRIPT)
        async with redis.pipeline(transaction=False) as pipeline:
            for name in names:
                asked = requests.get(name, ())
                limit = min((request.limit for request in asked), default=0)
                numbers = (self._held[name], len(asked), limit, self._lease_seconds)
                key = f"limits:quota:{name.kind}:{name.owner_digest}"
                await script(keys=[key], args=[self._process, *numbers], client=pipeline)
            return [int(each) for each in await pipeline.execute()]


def create_quota(redis: RedisPolicy | None, secret: bytes) -> Quota:
    """Return the quota of all processes at that Redis; a local one for None."""
    return LocalQuota() if redis is None else DistributedQuota(redis, secret)


def _grant(requests: Sequence[_Request], allowed: int) -> int:
    """Grant so many of the requests that still wait and refuse the others; return how many were granted."""
    taken = 0
    for _, answer in requests:
        if not answer.done():
            answer.set_result(taken < allowed)
            taken += taken < allowed
    return taken
