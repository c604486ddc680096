"""A gateway that stops: it says so at once, loses nobody, and finishes what it has begun."""

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

from tests.gateway.fakes import ADA, KEY, Services, settings
from tests.gateway.http.event_streams import MULTIPART, SSE, following
from tests.gateway.live_gateway import FOLLOW, WHO, Gateway, deaf_socket, introduction, running_gateway, until
from tests.resolvers.scripted import scripts
from worker.dev.ports import free_port

RESTARTING = 1012
DRAIN_SECONDS = 3.0


@pytest.fixture
async def gateway(temporal_address: str, services: Services, tmp_path: Path) -> AsyncIterator[Gateway]:
    known = settings(temporal_address, data_dir=tmp_path)
    async with running_gateway(known, services, drain_seconds=DRAIN_SECONDS) as gateway:
        yield gateway


async def test_it_is_not_ready_from_the_first_moment_on_and_still_answers(
    temporal_address: str, services: Services, tmp_path: Path
) -> None:
    known = settings(temporal_address, data_dir=tmp_path)
    async with running_gateway(known, services, drain_seconds=20) as gateway, AsyncExitStack() as stack:
        for _ in range(60):  # so that closing them takes a while, though not beyond this block
            await stack.enter_async_context(gateway.open())
        client = await stack.enter_async_context(httpx.AsyncClient())
        assert (await client.get(f"{gateway.http}/readyz")).status_code == 200
        gateway.stop.set()
        await asyncio.sleep(0)
        answer = await client.get(f"{gateway.http}/readyz")
        assert (answer.status_code, answer.json()) == (503, {"status": "stopping"})
        assert (await client.get(f"{gateway.http}/healthz")).status_code == 200
        assert (await client.post(f"{gateway.http}/graphql", json={"query": WHO})).json() == {"data": {"viewer": None}}


async def test_a_socket_that_opens_meanwhile_is_sent_elsewhere_at_once(gateway: Gateway) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(60):
            await stack.enter_async_context(gateway.open())
        gateway.stop.set()
        await asyncio.sleep(0)
        with pytest.raises(ConnectionClosed) as closed:  # a handshake that fails is final for graphql-ws
            async with gateway.open():
                pass
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == RESTARTING


async def test_sockets_are_closed_in_batches_over_the_time_there_is(gateway: Gateway) -> None:
    opened, ended = asyncio.Semaphore(0), list[float]()

    async def stay() -> None:
        async with gateway.open() as sock:
            opened.release()
            assert await sock.end() == RESTARTING
            ended.append(time.monotonic())

    staying = [asyncio.create_task(stay()) for _ in range(200)]
    for _ in staying:
        await opened.acquire()
    begun = time.monotonic()
    gateway.stop.set()
    await asyncio.gather(*staying)
    await gateway.stopped.wait()
    assert max(ended) - begun < DRAIN_SECONDS + 1
    moments = {round(each - begun, 1) for each in ended}
    assert len(moments) >= 4, f"they were closed at {sorted(moments)}"


async def test_one_socket_is_closed_at_once(gateway: Gateway) -> None:
    async with gateway.open() as sock:
        begun = time.monotonic()
        gateway.stop.set()
        assert await sock.end() == RESTARTING
        await gateway.stopped.wait()
        assert time.monotonic() - begun < 1


async def test_a_client_that_does_not_answer_the_close_holds_up_nothing(gateway: Gateway) -> None:
    async with deaf_socket(gateway) as deaf:
        await until(lambda: len(gateway.app.streams) == 1)
        begun = time.monotonic()
        gateway.stop.set()
        await gateway.stopped.wait()
        assert time.monotonic() - begun < DRAIN_SECONDS + 1
        assert (await deaf.read())[1] == RESTARTING


async def test_server_sent_events_end_without_complete_and_tell_when_to_come_back(
    gateway: Gateway, temporal_client: Client
) -> None:
    async with scripts(temporal_client) as starter, httpx.AsyncClient() as client:
        script = await starter.start(user_id=ADA)
        async with following(client, gateway, FOLLOW, accept=SSE, id=script.id) as events:
            told = []
            async for event in events:
                told.append(event)
                if event.kind == "next":
                    gateway.stop.set()
        assert [event.kind for event in told if event.kind != "heartbeat"] == ["next", "retry"]
        assert 100 < (told[-1].retry or 0) < 5000
        await script.end()


async def test_a_multipart_subscription_ends_with_an_error_for_its_bare_end_would_look_like_the_operations(
    gateway: Gateway, temporal_client: Client
) -> None:
    async with scripts(temporal_client) as starter, httpx.AsyncClient() as client:
        script = await starter.start(user_id=ADA)
        async with following(client, gateway, FOLLOW, accept=MULTIPART, id=script.id) as events:
            told = []
            async for event in events:
                told.append(event)
                if event.kind == "next":
                    gateway.stop.set()
        assert [event.codes for event in told if event.kind == "next"] == [[], ["UPSTREAM_UNAVAILABLE"]]
        await script.end()


async def test_requests_under_way_are_finished(gateway: Gateway, services: Services) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    usual: Any = services.handlers["users/get_users"]

    async def slow(caller: Any, body: Any) -> Any:
        begun.set()
        await go_on.wait()
        return usual(caller, body)

    services.handlers["users/get_users"] = slow
    async with httpx.AsyncClient(headers=introduction()) as client:
        asking = asyncio.create_task(client.post(f"{gateway.http}/graphql", json={"query": WHO}))
        await begun.wait()
        gateway.stop.set()
        await asyncio.sleep(1)
        assert not gateway.stopped.is_set()
        go_on.set()
        assert (await asking).json()["data"]["viewer"]["user"]["id"] == ADA
    async with asyncio.timeout(2):
        await gateway.stopped.wait()


async def test_sigterm_ends_the_process_once_all_sockets_are_elsewhere(temporal_address: str, tmp_path: Path) -> None:
    port = free_port("127.0.0.1")
    told = {
        "DATA_DIR": str(tmp_path),
        "SECRET_KEY": KEY,
        "SERVICE_KEY": KEY,
        "TEMPORAL_ADDRESS": temporal_address,
        "GATEWAY_PORT": str(port),
        "DRAIN_SECONDS": "2",
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "gateway", env=os.environ | told)
    stop, stopped = asyncio.Event(), asyncio.Event()
    gateway = Gateway(None, port, stop, stopped)  # type: ignore[arg-type]
    async with httpx.AsyncClient() as client, AsyncExitStack() as stack:
        async with asyncio.timeout(30):
            answers = False
            while not answers:
                with suppress(httpx.TransportError):
                    answers = (await client.get(f"{gateway.http}/readyz")).status_code == 200
        sockets = [await stack.enter_async_context(gateway.open()) for _ in range(80)]
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(1):
            while (await client.get(f"{gateway.http}/readyz")).status_code != 503:
                pass
        assert set(await asyncio.gather(*(sock.end() for sock in sockets))) == {RESTARTING}
        async with asyncio.timeout(10):
            assert await process.wait() == 0
        assert time.monotonic() - begun < 4
