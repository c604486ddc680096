"""How one event stream ends: with its client, with a client that takes nothing, and with the process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.types import Message

from gateway.connection_registry import ConnectionRegistry, KeepAliveSettings
from gateway.http.event_streams import EventStream, StreamedSubscription
from gateway.http.stream_formats import ServerSentEvents
from gateway.sessions.session_cache import SessionCache
from gateway.sessions.session_monitor import SessionMonitor
from gateway.subscription_multiplexer import SerializedResult
from infrastructure.caching.cache import MemoryCache
from infrastructure.change_notifications import LocalNotifier
from resolvers.clients.auth import AuthClient
from resolvers.following.subscription_state import SubscriptionState
from tests.gateway.live_gateway import until

PATIENCE = KeepAliveSettings(ping_interval_seconds=100, pong_timeout_seconds=100, write_timeout_seconds=0.7)


class Client:
    """What is sent to it; ``takes``: it reads, ``left``: it has hung up."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.takes = asyncio.Event()
        self.takes.set()
        self.left = asyncio.Event()

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        await self.takes.wait()

    async def receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}

    @property
    def text(self) -> str:
        return b"".join(message.get("body", b"") for message in self.sent).decode()

    @property
    def is_complete(self) -> bool:
        return self.sent[-1] == {"type": "http.response.body", "body": b""}


class World:
    """One stream, whose results a test puts in. ``is_closed``: its subscription has ended."""

    def __init__(self, streams: ConnectionRegistry) -> None:
        self.client = Client()
        self.results: asyncio.Queue[str | None] = asyncio.Queue()
        self.is_closed = False
        calls: Any = None
        sessions = SessionMonitor(
            SessionCache(MemoryCache(), AuthClient(calls)), LocalNotifier(), check_interval_seconds=60
        )
        backend = SimpleNamespace(operations=None)
        context: Any = SimpleNamespace(
            following=SubscriptionState(), backend=backend, token=None, request_id="", previous_session=None
        )
        subscription = StreamedSubscription(self._yield_results(), ServerSentEvents(), context, None)
        self.stream = EventStream(subscription, streams, PATIENCE, sessions)
        self.task = asyncio.create_task(self.stream({}, self.client.receive, self.client.send))

    async def _yield_results(self) -> AsyncGenerator[SerializedResult]:
        try:
            while (result := await self.results.get()) is not None:
                yield SerializedResult(result, None)
        finally:
            await asyncio.sleep(0.1)  # as an unsubscription takes its time
            self.is_closed = True

    async def ended(self) -> None:
        async with asyncio.timeout(10):
            await self.task


@pytest.fixture
async def streams() -> AsyncIterator[ConnectionRegistry]:
    streams = ConnectionRegistry()
    async with streams.running():
        yield streams


@pytest.fixture
async def world(streams: ConnectionRegistry) -> World:
    world = World(streams)
    await until(lambda: len(streams) == 1 and len(world.client.sent) == 2)
    return world


async def test_a_stream_that_has_come_to_its_end_says_so(world: World, streams: ConnectionRegistry) -> None:
    await world.results.put('{"data":1}')
    await world.results.put(None)
    await world.ended()
    assert world.client.text == ':\n\nevent: next\ndata: {"data":1}\n\nevent: complete\ndata:\n\n'
    assert world.client.is_complete
    assert (world.is_closed, len(streams)) == (True, 0)


async def test_a_client_that_leaves_ends_its_subscription_and_is_sent_nothing_more(
    world: World, streams: ConnectionRegistry
) -> None:
    world.client.left.set()
    await world.ended()
    assert len(world.client.sent) == 2
    assert (world.is_closed, len(streams)) == (True, 0)


async def test_a_client_that_takes_nothing_is_given_up_and_what_is_half_sent_is_not_completed(
    world: World, streams: ConnectionRegistry
) -> None:
    world.client.takes.clear()
    began = time.monotonic()
    await world.results.put('{"data":1}')
    await world.ended()
    assert 0.6 < time.monotonic() - began < 6
    assert not world.client.is_complete
    assert len(world.client.sent) == 3
    assert (world.is_closed, len(streams)) == (True, 0)


async def test_a_client_that_has_taken_all_is_not_given_up_however_long_nothing_is_sent(world: World) -> None:
    await world.results.put('{"data":1}')
    await asyncio.sleep(2.5)
    assert not world.task.done()
    await world.results.put(None)
    await world.ended()
    assert world.client.is_complete


async def test_a_restart_is_through_once_the_stream_has_ended(world: World, streams: ConnectionRegistry) -> None:
    await world.stream.close_for_restart()
    assert (world.is_closed, len(streams)) == (True, 0)
    await world.ended()
    assert world.client.text.startswith(":\n\nretry: ")
    assert "complete" not in world.client.text


async def test_a_stream_that_opens_while_the_process_stops_ends_at_once(streams: ConnectionRegistry) -> None:
    await streams.drain(0.1)
    late = World(streams)
    await late.ended()
    assert "retry: " in late.client.text
    assert late.is_closed


class Stuck:
    """A stream that does not end though it is asked to."""

    def check_liveness(self, now: float) -> None:
        pass

    async def close_for_restart(self) -> None:
        await asyncio.sleep(60)


async def test_a_drain_waits_for_streams_no_longer_than_its_time_limit(streams: ConnectionRegistry) -> None:
    with streams.register(Stuck()):
        began = time.monotonic()
        await streams.drain(0.2)
        assert 0.1 < time.monotonic() - began < 10
