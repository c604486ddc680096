"""Fifty logins at once, hashed beside the event loop of the very process that answers, hold up nobody who asks else."""

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
from tests.gateway.fakes import Services, settings
from tests.gateway.live_gateway import Gateway, running_gateway

LOGINS = 50
MOST_SECONDS = 0.01
"""Less than one hash takes."""
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
LOGIN = "mutation ($input: LoginInput!) { login(input: $input) { operation { id } } }"


@pytest.fixture
async def gateway(temporal_address: str, tmp_path: Path) -> AsyncIterator[Gateway]:
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
    async with running_gateway(configured, Services({"auth/verify_credentials": verify})) as gateway:
        yield gateway
    passwords.close()


async def log_in(gateway: Gateway, n: int, address: str = "198.51.100.7") -> str:
    variables = {"input": {"email": f"nobody-{n}@example.com", "password": "wrong"}}
    body = json.dumps({"query": LOGIN, "variables": variables}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    head = (
        f"POST /graphql HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: {address}\r\nContent-Type: application/json\r\n"
    )
    head += f"Content-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    answer = (await reader.readuntil(b"\r\n\r\n")) + await reader.read(4096)
    writer.close()
    return answer.decode()


async def cpu_seconds_of_a_hash() -> float:
    with closing(Passwords()) as passwords:
        begun = time.process_time()
        await passwords.hash("a password")
        return time.process_time() - begun


async def test_fifty_logins_at_once_are_hashed_beside_the_thread_that_answers_all_others(gateway: Gateway) -> None:
    """In time that this thread worked, which is what it kept others waiting, however busy the machine is."""
    waits: list[float] = []
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    await log_in(gateway, LOGINS)
    hash_seconds = await cpu_seconds_of_a_hash()
    gc.collect()
    gc.freeze()  # as the process does that serves: what a test run has gathered is none of a login's work
    logins = asyncio.gather(*(log_in(gateway, n) for n in range(LOGINS)))
    begun, worked = time.process_time(), time.thread_time()
    while not logins.done():
        before = time.thread_time()
        writer.write(HEALTH)
        assert b"200" in await reader.readuntil(b"}")
        waits.append(time.thread_time() - before)
        await asyncio.sleep(0.002)
    writer.close()
    gc.unfreeze()
    assert all("INVALID_CREDENTIALS" in answer for answer in await logins)
    beside, worked = time.process_time() - begun, time.thread_time() - worked
    assert beside - worked > LOGINS * hash_seconds / 2, "other threads computed the hashes"
    assert len(waits) > 20
    assert statistics.median(waits) < MOST_SECONDS, waits


async def test_a_flood_of_logins_from_one_network_leaves_a_login_from_another_its_usual_time(gateway: Gateway) -> None:
    ended: list[str] = []
    has_begun = asyncio.Event()

    async def flood(n: int) -> None:
        ended.append(await log_in(gateway, n))
        if len(ended) == 2:
            has_begun.set()

    logins = [asyncio.create_task(flood(n)) for n in range(150)]
    await has_begun.wait()
    before = len(ended)
    answer = await log_in(gateway, 1_000, "192.0.2.1")
    during = len(ended) - before
    await asyncio.gather(*logins)

    assert "INVALID_CREDENTIALS" in answer
    assert during < 20, "it did not wait for those that came before it"
