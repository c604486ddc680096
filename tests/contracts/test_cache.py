"""Redis as many use it at one moment."""

from __future__ import annotations

import asyncio
import time

import pytest
from redis.asyncio import Redis

from contracts.cache import open_cache, redis_at
from tests.mail_server import silent_server

PATIENT_SECONDS = 60.0
"""How long a command may wait for a connection: what is tested is that it waits, not how fast this machine is."""


async def test_more_commands_at_one_moment_than_connections_wait_for_one(redis_url: str) -> None:
    async with redis_at(redis_url, seconds=PATIENT_SECONDS) as redis:
        assert await asyncio.gather(*(redis.ping() for _ in range(1000))) == [True] * 1000
        async with Redis.from_url(redis_url) as looking:
            assert len(await looking.client_list()) <= 60


async def test_so_does_the_cache(redis_url: str) -> None:
    async with open_cache(redis_url, seconds=PATIENT_SECONDS) as cache:
        await cache.set("many", "value", ttl=60)
        assert await asyncio.gather(*(cache.get("many") for _ in range(500))) == ["value"] * 500


async def test_a_cache_that_says_nothing_is_left_after_two_seconds() -> None:
    async with silent_server() as port, open_cache(f"redis://127.0.0.1:{port}/0") as cache:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            await cache.get("key")
        assert 1.9 < time.monotonic() - began < 4
