"""How a single event stream ends: with its client, with a client that does not read, and with the process."""

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
from tests.gateway.live_gateway import wait_until

KEEPALIVE = KeepAliveSettings(ping_interval_seconds=100, pong_timeout_seconds=100, write_timeout_seconds=0.7)


class RecordingClient:
    """An ASGI client that records messages; it reads while ``may_send`` is set and disconnects when
    ``has_disconnected`` is set.
    """

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.may_send = asyncio.Event()
        self.may_send.set()
        self.has_disconnected = asyncio.Event()

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        await self.may_send.wait()

    async def receive(self) -> Message:
        await self.has_disconnected.wait()
        return {"type": "http.disconnect"}

    @property
    def text(self) -> str:
        """All response bodies so far as text."""
        return b"".join(message.get("body", b"") for message in self.sent).decode()

    @property
    def is_complete(self) -> bool:
        """Whether the last message ends the response."""
        return self.sent[-1] == {"type": "http.response.body", "body": b""}


class StreamEnvironment:
    """One event stream whose results a test provides; ``is_closed`` is set after its subscription has ended."""

    def __init__(self, streams: ConnectionRegistry) -> None:
        self.client = RecordingClient()
        self.results: asyncio.Queue[str | None] = asyncio.Queue()
        self.is_closed = False
        calls: Any = None
        sessions = SessionMonitor(
            SessionCache(MemoryCache(), AuthClient(calls)), LocalNotifier(), check_interval_seconds=60
        )
        backend = SimpleNamespace(operations=None)
        context: Any = SimpleNamespace(
            subscription=SubscriptionState(), backend=backend, token=None, request_id="", previous_session=None
        )
        subscription = StreamedSubscription(self._yield_results(), ServerSentEvents(), context, None)
        self.stream = EventStream(subscription, streams, KEEPALIVE, sessions)
        self.task = asyncio.create_task(self.stream({}, self.client.receive, self.client.send))

    async def _yield_results(self) -> AsyncGenerator[SerializedResult]:
        try:
            while (result := await self.results.get()) is not None:
                yield SerializedResult(result, None)
        finally:
            await asyncio.sleep(0.1)  # an unsubscription takes a moment
            self.is_closed = True

    async def wait_for_end(self) -> None:
        """Wait until the response has ended."""
        async with asyncio.timeout(10):
            await self.task


@pytest.fixture
async def streams() -> AsyncIterator[ConnectionRegistry]:
    """A registry of connections that is running."""
    streams = ConnectionRegistry()
    async with streams.running():
        yield streams


@pytest.fixture
async def environment(streams: ConnectionRegistry) -> StreamEnvironment:
    """An event stream that has started."""
    environment = StreamEnvironment(streams)
    await wait_until(lambda: len(streams) == 1 and len(environment.client.sent) == 2)
    return environment


async def test_ended_subscription_sends_complete(environment: StreamEnvironment, streams: ConnectionRegistry) -> None:
    await environment.results.put('{"data":1}')
    await environment.results.put(None)
    await environment.wait_for_end()
    assert environment.client.text == ':\n\nevent: next\ndata: {"data":1}\n\nevent: complete\ndata:\n\n'
    assert environment.client.is_complete
    assert (environment.is_closed, len(streams)) == (True, 0)


async def test_disconnected_client_ends_its_subscription_and_receives_nothing_more(
    environment: StreamEnvironment, streams: ConnectionRegistry
) -> None:
    environment.client.has_disconnected.set()
    await environment.wait_for_end()
    assert len(environment.client.sent) == 2
    assert (environment.is_closed, len(streams)) == (True, 0)


async def test_client_that_does_not_read_is_disconnected_without_completing_the_response(
    environment: StreamEnvironment, streams: ConnectionRegistry
) -> None:
    environment.client.may_send.clear()
    began = time.monotonic()
    await environment.results.put('{"data":1}')
    await environment.wait_for_end()
    assert 0.6 < time.monotonic() - began < 6
    assert not environment.client.is_complete
    assert len(environment.client.sent) == 3
    assert (environment.is_closed, len(streams)) == (True, 0)


async def test_client_that_has_read_everything_stays_connected_without_further_results(
    environment: StreamEnvironment,
) -> None:
    await environment.results.put('{"data":1}')
    await asyncio.sleep(2.5)
    assert not environment.task.done()
    await environment.results.put(None)
    await environment.wait_for_end()
    assert environment.client.is_complete


async def test_closing_for_a_restart_waits_until_the_stream_has_ended(
    environment: StreamEnvironment, streams: ConnectionRegistry
) -> None:
    await environment.stream.close_for_restart()
    assert (environment.is_closed, len(streams)) == (True, 0)
    await environment.wait_for_end()
    assert environment.client.text.startswith(":\n\nretry: ")
    assert "complete" not in environment.client.text


async def test_stream_that_opens_while_the_process_stops_ends_immediately(streams: ConnectionRegistry) -> None:
    await streams.drain(0.1)
    opened_late = StreamEnvironment(streams)
    await opened_late.wait_for_end()
    assert "retry: " in opened_late.client.text
    assert opened_late.is_closed


class HangingConnection:
    """A connection that does not end when it is closed for a restart."""

    def check_liveness(self, now: float) -> None:
        pass

    async def close_for_restart(self) -> None:
        await asyncio.sleep(60)


async def test_drain_does_not_wait_longer_than_its_time_limit(streams: ConnectionRegistry) -> None:
    with streams.register(HangingConnection()):
        began = time.monotonic()
        await streams.drain(0.2)
        assert 0.1 < time.monotonic() - began < 10
