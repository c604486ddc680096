"""A stopping gateway reports that it is not ready, closes sockets in batches and finishes requests that have begun."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from temporalio.client import Client
from websockets.exceptions import ConnectionClosed

from tests.gateway.fakes import ADA, KEY, FakeServices, settings
from tests.gateway.http.event_streams import MULTIPART, SSE, open_event_stream
from tests.gateway.live_gateway import (
    FOLLOW,
    VIEWER_QUERY,
    Gateway,
    authorization,
    non_reading_socket,
    running_gateway,
    wait_until,
)
from tests.resolvers.scripted import scripts
from worker.dev.ports import free_port

CLOSE_SERVICE_RESTART = 1012
DRAIN_SECONDS = 3.0


@pytest.fixture
async def gateway(temporal_address: str, services: FakeServices, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A running gateway with a drain time of three seconds."""
    gateway_settings = settings(temporal_address, data_dir=tmp_path)
    async with running_gateway(gateway_settings, services, drain_seconds=DRAIN_SECONDS) as gateway:
        yield gateway


async def test_reports_not_ready_immediately_and_still_executes_requests(
    temporal_address: str, services: FakeServices, tmp_path: Path
) -> None:
    gateway_settings = settings(temporal_address, data_dir=tmp_path)
    async with running_gateway(gateway_settings, services, drain_seconds=20) as gateway, AsyncExitStack() as stack:
        for _ in range(60):  # enough that closing them takes a while, but less than this block
            await stack.enter_async_context(gateway.open())
        client = await stack.enter_async_context(httpx.AsyncClient())
        assert (await client.get(f"{gateway.http}/readyz")).status_code == 200
        gateway.stop.set()
        await asyncio.sleep(0)
        response = await client.get(f"{gateway.http}/readyz")
        assert (response.status_code, response.json()) == (503, {"status": "stopping"})
        assert (await client.get(f"{gateway.http}/healthz")).status_code == 200
        assert (await client.post(f"{gateway.http}/graphql", json={"query": VIEWER_QUERY})).json() == {
            "data": {"viewer": None}
        }


async def test_closes_a_socket_that_opens_during_the_stop_with_restart_code(gateway: Gateway) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(60):
            await stack.enter_async_context(gateway.open())
        gateway.stop.set()
        await asyncio.sleep(0)
        with pytest.raises(ConnectionClosed) as closed:  # graphql-ws does not reconnect after a failed handshake
            async with gateway.open():
                pass
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == CLOSE_SERVICE_RESTART


async def test_closes_sockets_in_batches_over_the_drain_time(gateway: Gateway) -> None:
    open_sockets, ended = asyncio.Semaphore(0), list[float]()

    async def wait_for_restart() -> None:
        async with gateway.open() as sock:
            open_sockets.release()
            assert await sock.wait_for_close() == CLOSE_SERVICE_RESTART
            ended.append(time.monotonic())

    waiting = [asyncio.create_task(wait_for_restart()) for _ in range(200)]
    for _ in waiting:
        await open_sockets.acquire()
    begun = time.monotonic()
    gateway.stop.set()
    await asyncio.gather(*waiting)
    await gateway.stopped.wait()
    assert max(ended) - begun < DRAIN_SECONDS + 1
    close_times = {round(each - begun, 1) for each in ended}
    assert len(close_times) >= 4, f"they were closed at {sorted(close_times)}"


async def test_closes_a_single_socket_immediately(gateway: Gateway) -> None:
    async with gateway.open() as sock:
        begun = time.monotonic()
        gateway.stop.set()
        assert await sock.wait_for_close() == CLOSE_SERVICE_RESTART
        await gateway.stopped.wait()
        assert time.monotonic() - begun < 1


async def test_a_client_that_does_not_answer_the_close_frame_does_not_delay_the_stop(gateway: Gateway) -> None:
    async with non_reading_socket(gateway) as non_reading:
        await wait_until(lambda: len(gateway.app.streams) == 1)
        begun = time.monotonic()
        gateway.stop.set()
        await gateway.stopped.wait()
        assert time.monotonic() - begun < DRAIN_SECONDS + 1
        assert (await non_reading.read())[1] == CLOSE_SERVICE_RESTART


async def test_event_stream_ends_with_a_retry_time_instead_of_complete(
    gateway: Gateway, temporal_client: Client
) -> None:
    async with scripts(temporal_client) as starter, httpx.AsyncClient() as client:
        script = await starter.start(user_id=ADA)
        async with open_event_stream(client, gateway, FOLLOW, accept=SSE, id=script.id) as events:
            received = []
            async for event in events:
                received.append(event)
                if event.kind == "next":
                    gateway.stop.set()
        assert [event.kind for event in received if event.kind != "heartbeat"] == ["next", "retry"]
        assert 100 < (received[-1].retry or 0) < 5000
        await script.end()


async def test_multipart_subscription_ends_with_an_error_not_with_completion(
    gateway: Gateway, temporal_client: Client
) -> None:
    async with scripts(temporal_client) as starter, httpx.AsyncClient() as client:
        script = await starter.start(user_id=ADA)
        async with open_event_stream(client, gateway, FOLLOW, accept=MULTIPART, id=script.id) as events:
            received = []
            async for event in events:
                received.append(event)
                if event.kind == "next":
                    gateway.stop.set()
        assert [event.codes for event in received if event.kind == "next"] == [[], ["UPSTREAM_UNAVAILABLE"]]
        await script.end()


async def test_finishes_requests_that_have_started(gateway: Gateway, services: FakeServices) -> None:
    begun, may_continue = asyncio.Event(), asyncio.Event()
    default_handler: Any = services.handlers["users/get_users"]

    async def slow(caller: Any, body: Any) -> Any:
        begun.set()
        await may_continue.wait()
        return default_handler(caller, body)

    services.handlers["users/get_users"] = slow
    async with httpx.AsyncClient(headers=authorization()) as client:
        request = asyncio.create_task(client.post(f"{gateway.http}/graphql", json={"query": VIEWER_QUERY}))
        await begun.wait()
        gateway.stop.set()
        await asyncio.sleep(1)
        assert not gateway.stopped.is_set()
        may_continue.set()
        assert (await request).json()["data"]["viewer"]["user"]["id"] == ADA
    async with asyncio.timeout(2):
        await gateway.stopped.wait()


async def test_sigterm_ends_the_process_after_all_sockets_were_closed(temporal_address: str, tmp_path: Path) -> None:
    port = free_port("127.0.0.1")
    environment = {
        "DATA_DIR": str(tmp_path),
        "SECRET_KEY": KEY,
        "SERVICE_KEY": KEY,
        "TEMPORAL_ADDRESS": temporal_address,
        "GATEWAY_PORT": str(port),
        "DRAIN_SECONDS": "2",
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "gateway", env=os.environ | environment)
    stop, stopped = asyncio.Event(), asyncio.Event()
    gateway = Gateway(None, port, stop, stopped)  # type: ignore[arg-type]
    async with httpx.AsyncClient() as client, AsyncExitStack() as stack:
        async with asyncio.timeout(30):
            responses = False
            while not responses:
                with suppress(httpx.TransportError):
                    responses = (await client.get(f"{gateway.http}/readyz")).status_code == 200
        sockets = [await stack.enter_async_context(gateway.open()) for _ in range(80)]
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(1):
            while (await client.get(f"{gateway.http}/readyz")).status_code != 503:
                pass
        assert set(await asyncio.gather(*(sock.wait_for_close() for sock in sockets))) == {CLOSE_SERVICE_RESTART}
        async with asyncio.timeout(10):
            assert await process.wait() == 0
        assert time.monotonic() - begun < 4
