"""Change notifications over a real Redis: whatever anybody publishes, the next notification arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from contracts.cache import redis_at
from infrastructure.change_notifications import LOST, SharedWakeups, woken


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with redis_at(redis_url) as redis:
        yield redis


@pytest.fixture
async def listening(redis: Redis) -> AsyncIterator[SharedWakeups]:
    wakeups = SharedWakeups(redis)
    with wakeups.hearing("the beginning") as begun:
        async with wakeups.listening():
            assert await woken(begun, 5), "who waits is woken when it begins to listen"
            yield wakeups


@pytest.mark.parametrize("garbage", [b"\xff", b"\xc3(", b"\x00", b"", b"a" * 1_000_000])
async def test_what_is_no_name_keeps_no_other_from_arriving(
    redis: Redis, listening: SharedWakeups, garbage: bytes
) -> None:
    name = uuid4().hex
    with listening.hearing(name) as news, listening.hearing(LOST) as lost:
        await redis.publish("wakeups", garbage)
        await redis.publish("wakeups", name)
        assert await woken(news, 2)
        assert not lost.is_set()


async def test_an_unexpected_error_is_logged_and_notifications_arrive_again(
    redis: Redis, listening: SharedWakeups, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise ArithmeticError("unexpected")

    name = uuid4().hex
    with capture_logs() as logs, listening.hearing(LOST) as lost, listening.hearing(name) as news:
        with monkeypatch.context() as patch:
            patch.setattr("infrastructure.change_notifications.SharedWakeups._take_in", fail)
            await redis.publish("wakeups", "anything")
            assert await woken(lost, 2), "who relies on notifications is told that some were lost"
        assert await woken(news, 5), "it listens again, and whoever waits looks"
        news.clear()
        await redis.publish("wakeups", name)
        assert await woken(news, 2)
    failures = [log for log in logs if log["event"] == "background_task_failed"]
    assert [log["log_level"] for log in failures] == ["error"]


async def test_a_connection_that_is_cut_is_made_again(redis: Redis, listening: SharedWakeups) -> None:
    name = uuid4().hex
    with listening.hearing(LOST) as lost, listening.hearing(name) as news:
        await redis.client_kill_filter(_type="pubsub")
        assert await woken(lost, 5)
        assert await woken(news, 5)
        news.clear()
        for _ in range(50):
            await redis.publish("wakeups", name)
            if await woken(news, 0.1):
                break
        assert news.is_set()
        await asyncio.sleep(0)
