"""A concurrency quota that counts across all processes that use one Redis, by leases.

Each process writes its count of a key into Redis with an expiry (the lease) and renews the lease before it expires.
So a count is restored after Redis has lost its data, and the count of a killed process is released when its lease
expires. Requests are collected and sent in one pipeline. While Redis is unavailable, each process enforces the limits
by its own counts (local).
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
from infrastructure.limits.quota import LocalQuota, Quota, QuotaKey, quota_exhausted
from infrastructure.redis_policy import RedisPolicy
from infrastructure.tasks import supervised

LEASE_SECONDS = 60.0
_BATCH_SIZE = 500

# KEYS: the key of the quota. ARGV: the process, its count, the number of additional uses that it requests, the limit,
# the lease in seconds. Returns the number of additional uses that are granted. The time is that of Redis, because the
# clocks of the processes differ.
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

_Decision: TypeAlias = "asyncio.Future[bool]"
"""Whether the use is granted."""


class _Name(NamedTuple):
    """The name of a quota in Redis, without the owner in plain text."""

    kind: str
    owner_digest: str


class _Request(NamedTuple):
    limit: int
    decision: _Decision


class DistributedQuota:
    """A concurrency quota that counts across processes; each process has one instance.

    Args:
        redis: The Redis that holds the counts.
        secret: Key of the digests that identify owners in Redis, because addresses are personal data.
        lease_seconds: Time after which the count of a killed process is released.
    """

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
        self._has_work = asyncio.Event()

    @asynccontextmanager
    async def acquire(self, *keys: QuotaKey) -> AsyncIterator[None]:
        """Count one use of each key while the block runs.

        Raises:
            QuotaExhausted: The limit of a key is reached; no key is counted.
        """
        with self._local.hold(keys):
            names = await self._acquire(keys)
            try:
                yield
            finally:
                self._release(names)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Exchange counts with Redis while the block runs; then grant the waiting requests and release all counts."""
        try:
            async with supervised(self._run, name="renew quota leases"):
                yield
        finally:
            for requests in self._requests.values():
                _grant(requests, len(requests))
            names = [*self._held.keys() | self._changed]
            await self._redis.bypass(lambda redis: self._exchange(redis, names, {}), ())

    async def _acquire(self, keys: Sequence[QuotaKey]) -> list[_Name]:
        """Acquire all keys or none. Raises QuotaExhausted."""
        if not keys:
            return []
        names = [self._name(key) for key in keys]
        requested = [(name, self._request(name, key.limit)) for name, key in zip(names, keys, strict=True)]
        try:
            await asyncio.wait([decision for _, decision in requested])
        except asyncio.CancelledError:
            for _, decision in requested:
                decision.cancel()
            self._release(name for name, decision in requested if not decision.cancelled() and decision.result())
            raise
        granted = [name for name, decision in requested if decision.result()]
        if len(granted) == len(requested):
            return granted
        self._release(granted)
        raise quota_exhausted()

    def _request(self, name: _Name, limit: int) -> _Decision:
        decision: _Decision = asyncio.get_running_loop().create_future()
        self._requests.setdefault(name, []).append(_Request(limit, decision))
        self._has_work.set()
        return decision

    def _release(self, names: Iterable[_Name]) -> None:
        for name in names:
            self._held[name] -= 1
            self._changed.add(name)
            self._has_work.set()

    def _name(self, key: QuotaKey) -> _Name:
        return _Name(key.kind, hashlib.blake2s(key.owner.encode(), key=self._secret, digest_size=12).hexdigest())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        renewed_at = loop.time()
        while True:
            await wait_for_event(self._has_work, self._lease_seconds / 3)
            self._has_work.clear()
            requests, self._requests = self._requests, {}
            changed, self._changed = self._changed, set()
            if loop.time() - renewed_at >= self._lease_seconds / 3:
                changed |= self._held.keys()
                renewed_at = loop.time()
            names = [*requests, *(changed - requests.keys())]
            for begin in range(0, len(names), _BATCH_SIZE):
                await self._decide(names[begin : begin + _BATCH_SIZE], requests)

    async def _decide(self, names: Sequence[_Name], requests: dict[_Name, list[_Request]]) -> None:
        async def grant_locally() -> Sequence[int | None]:
            return [None] * len(names)

        try:
            grants = await self._redis.local(lambda redis: self._exchange(redis, names, requests), grant_locally)
        except Exception as error:
            log.error("quota_exchange_failed", exc_info=error)
            grants = await grant_locally()
        except BaseException:  # the process stops: no request stays undecided
            for undecided in requests.values():
                _grant(undecided, len(undecided))
            raise
        for name, granted in zip(names, grants, strict=True):
            requested = requests.get(name, ())
            allowed = len(requested) if granted is None else granted
            taken = _grant(requested, allowed)
            self._held[name] += taken
            if taken < allowed or granted is None:  # a request was cancelled, or Redis does not have the count yet
                self._changed.add(name)
            if not self._held[name]:
                del self._held[name]

    async def _exchange(
        self, redis: Redis, names: Sequence[_Name], requests: dict[_Name, list[_Request]]
    ) -> Sequence[int | None]:
        """Write the counts of this process and return the number of additional uses that are granted per name."""
        script = redis.register_script(_SCRIPT)
        async with redis.pipeline(transaction=False) as pipeline:
            for name in names:
                requested = requests.get(name, ())
                limit = min((request.limit for request in requested), default=0)
                numbers = (self._held[name], len(requested), limit, self._lease_seconds)
                key = f"limits:quota:{name.kind}:{name.owner_digest}"
                await script(keys=[key], args=[self._process, *numbers], client=pipeline)
            return [int(each) for each in await pipeline.execute()]


def create_quota(redis: RedisPolicy | None, secret: bytes) -> Quota:
    """Return a quota that counts across all processes that use this Redis, or within this process for None."""
    return LocalQuota() if redis is None else DistributedQuota(redis, secret)


def _grant(requests: Sequence[_Request], allowed: int) -> int:
    """Grant ``allowed`` of the waiting requests and refuse the others; return the number of granted requests."""
    taken = 0
    for _, decision in requests:
        if not decision.done():
            decision.set_result(taken < allowed)
            taken += taken < allowed
    return taken
