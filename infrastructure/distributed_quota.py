"""A concurrency quota that all processes at one Redis count together, by leases.

Each process writes into Redis how many it holds of a key, with an expiry, and renews that before it expires. So a
process's count returns after Redis has lost it, and what a killed process held is free once its lease has expired.
Requests are gathered and sent in one pipeline.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import NamedTuple, TypeAlias
from uuid import uuid4

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from contracts.cache import redis_at
from contracts.errors import ServiceUnavailable
from infrastructure.change_notifications import woken
from infrastructure.quota import LocalQuota, Quota, QuotaKey, WhenUnavailable, exhausted
from infrastructure.tasks import supervised

LEASE_SECONDS = 60.0
_DEADLINE_SECONDS = 0.75
_UNAVAILABLE_SECONDS = 5.0
"""How long Redis is not asked after it has failed to answer."""
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

_Answer: TypeAlias = "asyncio.Future[bool | None]"
"""Whether it was granted; None where Redis did not answer and the quota refuses then."""


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
        redis: Redis,
        secret: bytes,
        *,
        when_unavailable: WhenUnavailable = WhenUnavailable.LOCAL,
        lease_seconds: float = LEASE_SECONDS,
        owns_redis: bool = False,
    ) -> None:
        self._redis = redis
        self._owns_redis = owns_redis
        self._script = redis.register_script(_SCRIPT)
        self._secret = secret[:32]
        self._when_unavailable = when_unavailable
        self._lease_seconds = lease_seconds
        self._process = uuid4().hex
        self._local = LocalQuota()
        self._held: Counter[_Name] = Counter()
        self._requests: dict[_Name, list[_Request]] = {}
        self._changed: set[_Name] = set()
        self._wakeup = asyncio.Event()
        self._unavailable_until = 0.0

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
        async with AsyncExitStack() as stack:
            if self._owns_redis:
                await stack.enter_async_context(self._redis)
            try:
                async with supervised(self._run, name="renew quota leases"):
                    yield
            finally:
                for requests in self._requests.values():
                    _grant(requests, len(requests))
                with suppress(RedisError, OSError, TimeoutError):
                    async with asyncio.timeout(_DEADLINE_SECONDS):
                        await self._exchange([*self._held.keys() | self._changed], {})

    async def _grants(self, keys: Sequence[QuotaKey]) -> list[_Name]:
        """Have all keys granted, or none. Raises QuotaExhausted, and ServiceUnavailable."""
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
        if any(answer.result() is None for _, answer in asked):
            raise ServiceUnavailable(service="redis")
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
            await woken(self._wakeup, self._lease_seconds / 3)
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
        loop = asyncio.get_running_loop()
        more: Sequence[int | None] = [None] * len(names)
        if loop.time() >= self._unavailable_until:
            try:
                async with asyncio.timeout(_DEADLINE_SECONDS):
                    more = await self._exchange(names, requests)
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("quota_unavailable", mode=self._when_unavailable.value, error=repr(error))
                self._unavailable_until = loop.time() + _UNAVAILABLE_SECONDS
            except Exception as error:
                log.error("quota_unavailable", mode=self._when_unavailable.value, exc_info=error)
                self._unavailable_until = loop.time() + _UNAVAILABLE_SECONDS
            except BaseException:  # the process stops: no request is left without an answer
                for unanswered in requests.values():
                    _grant(unanswered, len(unanswered))
                raise
        for name, granted in zip(names, more, strict=True):
            asked = requests.get(name, ())
            if granted is None and self._when_unavailable is WhenUnavailable.REFUSE:
                _refuse(asked)
                asked = ()
            allowed = len(asked) if granted is None else granted
            taken = _grant(asked, allowed)
            self._held[name] += taken
            if taken < allowed or granted is None:  # a requester has left, or Redis does not know the count yet
                self._changed.add(name)
            if not self._held[name]:
                del self._held[name]

    async def _exchange(self, names: Sequence[_Name], requests: dict[_Name, list[_Request]]) -> list[int]:
        """Write this process's counts and return how many more it may hold of each."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for name in names:
                asked = requests.get(name, ())
                limit = min((request.limit for request in asked), default=0)
                numbers = (self._held[name], len(asked), limit, self._lease_seconds)
                key = f"quota:{name.kind}:{name.owner_digest}"
                await self._script(keys=[key], args=[self._process, *numbers], client=pipeline)
            return [int(each) for each in await pipeline.execute()]


def create_quota(redis_url: str | None, secret: bytes) -> Quota:
    """Return the quota of all processes at that Redis, to which it connects at first use; a local one for None."""
    if redis_url is None:
        return LocalQuota()
    redis = redis_at(redis_url, seconds=_DEADLINE_SECONDS, socket_connect_timeout=_DEADLINE_SECONDS)
    return DistributedQuota(redis, secret, owns_redis=True)


def _grant(requests: Sequence[_Request], allowed: int) -> int:
    """Grant so many of the requests that still wait and refuse the others; return how many were granted."""
    taken = 0
    for _, answer in requests:
        if not answer.done():
            answer.set_result(taken < allowed)
            taken += taken < allowed
    return taken


def _refuse(requests: Sequence[_Request]) -> None:
    for _, answer in requests:
        if not answer.done():
            answer.set_result(None)
