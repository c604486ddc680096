"""Concurrent logins are hashed in other threads of the gateway's process and do not delay other requests."""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import closing
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from contracts.callers import Caller
from contracts.errors import InvalidCredentials
from infrastructure.limits.fair_semaphore import Requester
from infrastructure.passwords import Passwords
from tests.gateway.fakes import FakeServices, settings
from tests.gateway.live_gateway import Gateway, running_gateway

LOGINS = 50
MAX_RESPONSE_SECONDS = 0.01
"""Shorter than one hash takes."""
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
LOGIN = "mutation ($input: LoginInput!) { login(input: $input) { operation { id } } }"


@pytest.fixture
async def gateway(temporal_address: str, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A running gateway that hashes passwords in its own process."""
    passwords = Passwords()

    async def verify(caller: Caller, body: dict[str, Any]) -> Any:
        await passwords.verify(None, body["password"], Requester(caller.client, body["email"]))
        raise InvalidCredentials()

    configured = settings(
        temporal_address,
        data_dir=tmp_path,
        login_attempts_per_network=1_000,
        trusted_proxies=[ip_network("127.0.0.0/8")],
    )
    async with running_gateway(configured, FakeServices({"auth/verify_credentials": verify})) as gateway:
        yield gateway
    passwords.close()


async def log_in(gateway: Gateway, n: int, address: str = "198.51.100.7") -> str:
    """Send a login with a wrong password from this address; return the response."""
    variables = {"input": {"email": f"nobody-{n}@example.com", "password": "wrong"}}
    body = json.dumps({"query": LOGIN, "variables": variables}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    head = (
        f"POST /graphql HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: {address}\r\nContent-Type: application/json\r\n"
    )
    head += f"Content-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    response = (await reader.readuntil(b"\r\n\r\n")) + await reader.read(4096)
    writer.close()
    return response.decode()


async def cpu_seconds_of_a_hash() -> float:
    """Return the CPU time of one password hash in seconds."""
    with closing(Passwords()) as passwords:
        begun = time.process_time()
        await passwords.hash("a password")
        return time.process_time() - begun


async def test_hashes_fifty_concurrent_logins_outside_the_event_loop_thread(gateway: Gateway) -> None:
    """Delays are measured in CPU time of this thread, so that the load of the machine has no effect."""
    waits: list[float] = []
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    await log_in(gateway, LOGINS)
    hash_seconds = await cpu_seconds_of_a_hash()
    gc.collect()
    gc.freeze()  # as the gateway does: the garbage of earlier tests is not part of a login
    logins = asyncio.gather(*(log_in(gateway, n) for n in range(LOGINS)))
    begun, event_loop_seconds = time.process_time(), time.thread_time()
    while not logins.done():
        before = time.thread_time()
        writer.write(HEALTH)
        assert b"200" in await reader.readuntil(b"}")
        waits.append(time.thread_time() - before)
        await asyncio.sleep(0.002)
    writer.close()
    gc.unfreeze()
    assert all("INVALID_CREDENTIALS" in response for response in await logins)
    process_seconds, event_loop_seconds = time.process_time() - begun, time.thread_time() - event_loop_seconds
    assert process_seconds - event_loop_seconds > LOGINS * hash_seconds / 2, "other threads did not compute the hashes"
    assert len(waits) > 20
    assert statistics.median(waits) < MAX_RESPONSE_SECONDS, waits


async def test_a_flood_of_logins_from_one_network_does_not_delay_another_network(gateway: Gateway) -> None:
    ended: list[str] = []
    two_have_ended = asyncio.Event()

    async def log_in_and_count(n: int) -> None:
        ended.append(await log_in(gateway, n))
        if len(ended) == 2:
            two_have_ended.set()

    logins = [asyncio.create_task(log_in_and_count(n)) for n in range(150)]
    await two_have_ended.wait()
    before = len(ended)
    response = await log_in(gateway, 1_000, "192.0.2.1")
    during = len(ended) - before
    await asyncio.gather(*logins)

    assert "INVALID_CREDENTIALS" in response
    assert during < 20, "the login waited for earlier ones"
