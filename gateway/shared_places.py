"""How many places all processes have given to one user or one address, counted in Redis: asked for in batches.

Each process writes down how many it has given, for a while, and does so again before that is over. So what it knows is
told anew after Redis has forgotten it, and what it held is free a while after it was killed. While Redis is away each
process goes on by its own count, and nothing that is open ends.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple
from uuid import uuid4

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from contracts.cache import redis_at
from contracts.cancelling import meanwhile
from contracts.wakeups import woken

LEASE_SECONDS = 60.0
_DEADLINE_SECONDS = 0.75
_AWAY_SECONDS = 5.0
_AT_ONCE = 500

# KEYS: whose places. ARGV: the process, how many it holds, how many more it wants, how many there are, and for how many
# seconds that counts. Answers with how many more it may have. Redis's own clock, for those of the processes differ.
_SCRIPT = """
local now = tonumber(redis.call('TIME')[1])
local held, wanted, most, lease = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local others = 0
local told = redis.call('HGETALL', KEYS[1])
for i = 1, #told, 2 do
    local count, till = string.match(told[i + 1], '^(%d+) (%d+)$')
    if told[i] ~= ARGV[1] then
        if tonumber(till) < now then redis.call('HDEL', KEYS[1], told[i]) else others = others + tonumber(count) end
    end
end
local more = math.max(0, math.min(wanted, most - others - held))
if held + more > 0 then
    redis.call('HSET', KEYS[1], ARGV[1], string.format('%d %d', held + more, now + math.ceil(lease)))
    redis.call('PEXPIRE', KEYS[1], math.ceil(lease * 1000) + 1000)
else
    redis.call('HDEL', KEYS[1], ARGV[1])
end
return more
"""

log = structlog.get_logger()


class Whose(NamedTuple):
    """``most`` places there are of this kind for this one, named by a digest."""

    kind: str
    name: str
    most: int


class SharedPlaces:
    """One a process. ``secret`` makes the digests: addresses are somebody's."""

    def __init__(self, redis: Redis, secret: bytes, *, lease_seconds: float = LEASE_SECONDS) -> None:
        self._redis = redis
        self._script = redis.register_script(_SCRIPT)
        self._secret = secret[:32]
        self._lease_seconds = lease_seconds
        self._process = uuid4().hex
        self._held: Counter[Whose] = Counter()
        self._wanted: dict[Whose, list[asyncio.Future[bool]]] = {}
        self._changed: set[Whose] = set()
        self._news = asyncio.Event()
        self._away_until = 0.0

    async def take(self, kind: str, who: str, most: int) -> bool:
        """Whether there is one more. True, too, where nobody can tell."""
        whose = self._whose(kind, who, most)
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._wanted.setdefault(whose, []).append(answer)
        self._news.set()
        try:
            return await answer
        except asyncio.CancelledError:
            if not answer.cancelled() and answer.result():  # it came too late
                self.give_back(kind, who, most)
            raise

    def give_back(self, kind: str, who: str, most: int) -> None:
        whose = self._whose(kind, who, most)
        self._held[whose] -= 1
        self._changed.add(whose)
        self._news.set()

    @asynccontextmanager
    async def counted(self) -> AsyncIterator[None]:
        """While the block runs the processes at this Redis count together."""
        try:
            async with meanwhile(self._run(), name="count places"):
                yield
        finally:
            for answers in self._wanted.values():
                _answer(answers, len(answers))
            with suppress(RedisError, OSError, TimeoutError):
                async with asyncio.timeout(_DEADLINE_SECONDS):
                    await self._tell([*self._held.keys() | self._changed], {})

    def _whose(self, kind: str, who: str, most: int) -> Whose:
        return Whose(kind, hashlib.blake2s(who.encode(), key=self._secret, digest_size=12).hexdigest(), most)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        told_at = loop.time()
        while True:
            await woken(self._news, self._lease_seconds / 3)
            self._news.clear()
            wanted, self._wanted = self._wanted, {}
            changed, self._changed = self._changed, set()
            if loop.time() - told_at >= self._lease_seconds / 3:
                changed |= self._held.keys()
                told_at = loop.time()
            whose = [*wanted, *(changed - wanted.keys())]
            for begin in range(0, len(whose), _AT_ONCE):
                await self._ask(whose[begin : begin + _AT_ONCE], wanted)

    async def _ask(self, whose: Sequence[Whose], wanted: dict[Whose, list[asyncio.Future[bool]]]) -> None:
        loop = asyncio.get_running_loop()
        more: Sequence[int | None] = [None] * len(whose)
        if loop.time() >= self._away_until:
            try:
                async with asyncio.timeout(_DEADLINE_SECONDS):
                    more = await self._tell(whose, wanted)
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("places are counted by each process alone", error=repr(error))
                self._away_until = loop.time() + _AWAY_SECONDS
            except BaseException:  # the process stops: nobody is kept waiting
                for each in whose:
                    _answer(wanted.get(each, ()), len(wanted.get(each, ())))
                raise
        for each, given in zip(whose, more, strict=True):
            answers = wanted.get(each, ())
            allowed = len(answers) if given is None else given
            taken = _answer(answers, allowed)
            self._held[each] += taken
            if taken < allowed or given is None:  # who asked has left, or it could not be told
                self._changed.add(each)
            if not self._held[each]:
                del self._held[each]

    async def _tell(self, whose: Sequence[Whose], wanted: dict[Whose, list[asyncio.Future[bool]]]) -> list[int]:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for each in whose:
                numbers = (self._held[each], len(wanted.get(each, ())), each.most, self._lease_seconds)
                key = f"places:{each.kind}:{each.name}"
                await self._script(keys=[key], args=[self._process, *numbers], client=pipeline)
            return [int(each) for each in await pipeline.execute()]


@asynccontextmanager
async def shared_places(redis_url: str | None, secret: bytes) -> AsyncIterator[SharedPlaces | None]:
    """Of the processes at that Redis, which it connects to at first use; None without one."""
    if redis_url is None:
        yield None
        return
    async with redis_at(redis_url, seconds=_DEADLINE_SECONDS, socket_connect_timeout=_DEADLINE_SECONDS) as redis:
        shared = SharedPlaces(redis, secret)
        async with shared.counted():
            yield shared


def _answer(answers: Sequence[asyncio.Future[bool]], allowed: int) -> int:
    """Tell so many of those who still wait that they have a place, and the rest that they have none; how many have."""
    taken = 0
    for answer in answers:
        if not answer.done():
            answer.set_result(taken < allowed)
            taken += taken < allowed
    return taken
