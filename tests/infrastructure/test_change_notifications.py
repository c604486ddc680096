"""Change notifications over a real Redis: whatever anybody publishes, the next notification arrives."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from infrastructure.change_notifications import CONNECTION_LOST, LocalNotifier, RedisNotifier, wait_for_event
from tests.mail_server import silent_server
from tests.redis_access import open_change_notifier, redis_client
from tests.redis_server import RedisServer


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with redis_client(redis_url) as redis:
        yield redis


@pytest.fixture
async def listening(redis_url: str) -> AsyncIterator[RedisNotifier]:
    async with open_change_notifier(redis_url) as change_notifier:
        with change_notifier.subscribe("the beginning") as begun:
            async with change_notifier.listening():
                assert await wait_for_event(begun, 5), "who waits is woken when it begins to listen"
                yield change_notifier


@pytest.mark.parametrize("garbage", [b"\xff", b"\xc3(", b"\x00", b"", b"a" * 1_000_000])
async def test_invalid_message_does_not_block_later_notifications(
    redis: Redis, listening: RedisNotifier, garbage: bytes
) -> None:
    name = uuid4().hex
    with listening.subscribe(name) as news, listening.subscribe(CONNECTION_LOST) as lost:
        await redis.publish("changes:names", garbage)
        await redis.publish("changes:names", name)
        assert await wait_for_event(news, 2)
        assert not lost.is_set()


async def test_resumes_after_an_unexpected_error_and_logs_it(
    redis: Redis, listening: RedisNotifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise ArithmeticError("unexpected")

    name = uuid4().hex
    with capture_logs() as logs, listening.subscribe(CONNECTION_LOST) as lost, listening.subscribe(name) as news:
        with monkeypatch.context() as patch:
            patch.setattr("infrastructure.change_notifications.RedisNotifier._handle_message", fail)
            await redis.publish("changes:names", "anything")
            assert await wait_for_event(lost, 2), "CONNECTION_LOST is sent because notifications may have been missed"
        assert await wait_for_event(news, 5), "it subscribes again and notifies all subscribers"
        news.clear()
        await redis.publish("changes:names", name)
        assert await wait_for_event(news, 2)
    failures = [log for log in logs if log["event"] == "background_task_failed"]
    assert [log["log_level"] for log in failures] == ["error"]


async def test_reconnects_after_a_lost_connection(redis: Redis, listening: RedisNotifier) -> None:
    name = uuid4().hex
    with listening.subscribe(CONNECTION_LOST) as lost, listening.subscribe(name) as news:
        await redis.client_kill_filter(_type="pubsub")
        assert await wait_for_event(lost, 5)
        assert await wait_for_event(news, 5)
        news.clear()
        for _ in range(50):
            await redis.publish("changes:names", name)
            if await wait_for_event(news, 0.1):
                break
        assert news.is_set()
        await asyncio.sleep(0)


async def test_ended_subscription_receives_nothing_and_leaves_no_data() -> None:
    change_notifier = LocalNotifier()
    with change_notifier.subscribe("one", "two") as left:
        pass
    with pytest.raises(ArithmeticError), change_notifier.subscribe("one") as failed:
        raise ArithmeticError
    with change_notifier.subscribe("one") as stayed:
        await change_notifier.notify("one")
        assert stayed.is_set()
    assert not left.is_set()
    assert not failed.is_set()
    assert not change_notifier._waiting  # noqa: SLF001 - a leak shows nowhere else


async def test_unresponsive_redis_delays_no_local_notification_beyond_the_timeout() -> None:
    async with (
        silent_server() as port,
        open_change_notifier(f"redis://127.0.0.1:{port}/0", timeout_seconds=0.5) as change_notifier,
    ):
        began = time.monotonic()
        with capture_logs() as logs, change_notifier.subscribe("name") as news:
            await change_notifier.notify("name")
        assert news.is_set()
        assert 0.4 < time.monotonic() - began < 3
    assert [log["event"] for log in logs] == ["redis_unavailable"]


async def test_interruption_and_resumption_are_logged_once_each(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    server.start()
    try:
        async with open_change_notifier(server.url) as change_notifier:
            with capture_logs() as logs, change_notifier.subscribe("name") as news:
                async with change_notifier.listening():
                    assert await wait_for_event(news, 5)
                    server.kill()
                    await asyncio.sleep(2.5)  # at least two attempts to subscribe again
                    news.clear()
                    server.start()
                    assert await wait_for_event(news, 10)
    finally:
        server.close()
    assert [log["event"] for log in logs] == ["subscription_interrupted", "subscription_resumed"]
