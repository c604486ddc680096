"""RedisNotifier and LocalNotifier: delivery of notifications, invalid messages, lost connections and outages."""

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
async def notifier(redis_url: str) -> AsyncIterator[RedisNotifier]:
    async with open_change_notifier(redis_url) as change_notifier:
        with change_notifier.subscribe("any name") as changed:
            async with change_notifier.listening():
                assert await wait_for_event(changed, 5), "all subscribers are notified when the subscription begins"
                yield change_notifier


@pytest.mark.parametrize("garbage", [b"\xff", b"\xc3(", b"\x00", b"", b"a" * 1_000_000])
async def test_invalid_message_does_not_block_later_notifications(
    redis: Redis, notifier: RedisNotifier, garbage: bytes
) -> None:
    name = uuid4().hex
    with notifier.subscribe(name) as changed, notifier.subscribe(CONNECTION_LOST) as lost:
        await redis.publish("changes:names", garbage)
        await redis.publish("changes:names", name)
        assert await wait_for_event(changed, 2)
        assert not lost.is_set()


async def test_resumes_after_an_unexpected_error_and_logs_it(
    redis: Redis, notifier: RedisNotifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise ArithmeticError("unexpected")

    name = uuid4().hex
    with capture_logs() as logs, notifier.subscribe(CONNECTION_LOST) as lost, notifier.subscribe(name) as changed:
        with monkeypatch.context() as patch:
            patch.setattr("infrastructure.change_notifications.RedisNotifier._handle_message", fail)
            await redis.publish("changes:names", "anything")
            assert await wait_for_event(lost, 2), "CONNECTION_LOST is sent because notifications may have been missed"
        assert await wait_for_event(changed, 5), "it subscribes again and notifies all subscribers"
        changed.clear()
        await redis.publish("changes:names", name)
        assert await wait_for_event(changed, 2)
    failures = [log for log in logs if log["event"] == "background_task_failed"]
    assert [log["log_level"] for log in failures] == ["error"]


async def test_reconnects_after_a_lost_connection(redis: Redis, notifier: RedisNotifier) -> None:
    name = uuid4().hex
    with notifier.subscribe(CONNECTION_LOST) as lost, notifier.subscribe(name) as changed:
        await redis.client_kill_filter(_type="pubsub")
        assert await wait_for_event(lost, 5)
        assert await wait_for_event(changed, 5)
        changed.clear()
        for _ in range(50):
            await redis.publish("changes:names", name)
            if await wait_for_event(changed, 0.1):
                break
        assert changed.is_set()
        await asyncio.sleep(0)


async def test_ended_subscription_receives_nothing_and_leaves_no_data() -> None:
    change_notifier = LocalNotifier()
    with change_notifier.subscribe("one", "two") as ended:
        pass
    with pytest.raises(ArithmeticError), change_notifier.subscribe("one") as failed:
        raise ArithmeticError
    with change_notifier.subscribe("one") as active:
        await change_notifier.notify("one")
        assert active.is_set()
    assert not ended.is_set()
    assert not failed.is_set()
    assert not change_notifier._waiting  # noqa: SLF001 - no public method shows a leak


async def test_unresponsive_redis_delays_no_local_notification_beyond_the_timeout() -> None:
    async with (
        silent_server() as port,
        open_change_notifier(f"redis://127.0.0.1:{port}/0", timeout_seconds=0.5) as change_notifier,
    ):
        began = time.monotonic()
        with capture_logs() as logs, change_notifier.subscribe("name") as changed:
            await change_notifier.notify("name")
        assert changed.is_set()
        assert 0.4 < time.monotonic() - began < 3
    assert [log["event"] for log in logs] == ["redis_unavailable"]


async def test_interruption_and_resumption_are_logged_once_each(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    server.start()
    try:
        async with open_change_notifier(server.url) as change_notifier:
            with capture_logs() as logs, change_notifier.subscribe("name") as changed:
                async with change_notifier.listening():
                    assert await wait_for_event(changed, 5)
                    server.kill()
                    await asyncio.sleep(2.5)  # at least two attempts to subscribe again
                    changed.clear()
                    server.start()
                    assert await wait_for_event(changed, 10)
    finally:
        server.close()
    assert [log["event"] for log in logs] == ["subscription_interrupted", "subscription_resumed"]
