"""With the shipped settings, limits count each client behind the proxy separately: none can lock out another."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import count
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.docker.deployed import PROXY
from tests.stack import Stack

ATTACKER, VICTIM = "198.51.100.66", "203.0.113.7"
NOT_THE_PROXY = "127.0.0.2"
MAX_WRONG_PASSWORDS, MAX_SOCKETS = 100, 1_000
LOG_IN = """mutation ($email: String!, $password: String!) {
  login(input: {email: $email, password: $password}) { sessionToken }
}"""
PASSWORD = "adx-demo-password"

_numbers = count()


@pytest.fixture(params=["deployed_stack", "kubernetes_stack"])
def shipped_stack(request: pytest.FixtureRequest) -> Stack:
    found: Stack = request.getfixturevalue(request.param)
    return found


async def log_in(http: httpx.AsyncClient, stack: Stack, client: str, email: str, password: str) -> str | None:
    """Try to log in as the client with this address; return the error code, or None if the login succeeds."""
    url = stack.urls[next(_numbers) % len(stack.urls)]
    variables = {"email": email, "password": password}
    answer = await http.post(
        f"{url}/graphql", json={"query": LOG_IN, "variables": variables}, headers={"x-forwarded-for": client}
    )
    errors = answer.json().get("errors")
    return errors[0]["extensions"]["code"] if errors else None


async def try_wrong_passwords(http: httpx.AsyncClient, stack: Stack, client: Callable[[int], str]) -> None:
    """Try wrong passwords until the rate limit refuses one; it refills a little while they are tried."""
    for first in range(0, 2 * MAX_WRONG_PASSWORDS, 20):
        tries = (
            log_in(http, stack, client(number), f"unknown-{number}@example.com", "wrong")
            for number in range(first, first + 20)
        )
        codes = set(await asyncio.gather(*tries))
        assert codes <= {"INVALID_CREDENTIALS", "RATE_LIMITED"}
        if "RATE_LIMITED" in codes:
            assert first + 20 > MAX_WRONG_PASSWORDS
            return
    raise AssertionError("No attempt was rate limited.")


@asynccontextmanager
async def connecting_from(address: str) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.AsyncHTTPTransport(local_address=address, limits=httpx.Limits(max_connections=8))
    async with httpx.AsyncClient(transport=transport, timeout=60, trust_env=False) as http:
        yield http


async def open_socket(stack: AsyncExitStack, url: str, client: str, source: str = PROXY) -> ClientConnection | None:
    """Open a websocket without a session; return None if it is refused."""
    options: dict[str, Any] = {"local_addr": (source, 0), "additional_headers": {"x-forwarded-for": client}}
    protocol = Subprotocol("graphql-transport-ws")
    socket = await stack.enter_async_context(
        connect(url, subprotocols=[protocol], proxy=None, ping_interval=None, **options)
    )
    with suppress(ConnectionClosed):
        await socket.send(json.dumps({"type": "connection_init"}))
        assert json.loads(await asyncio.wait_for(socket.recv(), 30))["type"] == "connection_ack"
        return socket
    assert socket.close_code == 4429
    return None


async def test_wrong_passwords_of_one_client_do_not_lock_out_another(shipped_stack: Stack) -> None:
    async with connecting_from(PROXY) as http:
        await try_wrong_passwords(http, shipped_stack, lambda _: ATTACKER)
        assert await log_in(http, shipped_stack, ATTACKER, "grace@example.com", PASSWORD) == "RATE_LIMITED"
        spoofed = f"{VICTIM}, {ATTACKER}"
        assert await log_in(http, shipped_stack, spoofed, "grace@example.com", PASSWORD) == "RATE_LIMITED"

        assert await log_in(http, shipped_stack, VICTIM, "grace@example.com", PASSWORD) is None


async def test_a_client_that_bypasses_the_proxy_counts_by_its_own_address(shipped_stack: Stack) -> None:
    async with connecting_from(NOT_THE_PROXY) as http:
        await try_wrong_passwords(http, shipped_stack, lambda number: f"192.0.2.{number % 256}")
        assert await log_in(http, shipped_stack, VICTIM, "grace@example.com", PASSWORD) == "RATE_LIMITED"


@pytest.mark.timeout(300)
async def test_anonymous_sockets_of_one_client_do_not_use_the_quota_of_another(shipped_stack: Stack) -> None:
    urls = [f"ws{url.removeprefix('http')}/graphql" for url in shipped_stack.urls]
    async with AsyncExitStack() as stack:
        opened = 0
        while opened < MAX_SOCKETS:
            batch = (open_socket(stack, urls[number % len(urls)], ATTACKER) for number in range(50))
            opened += sum(socket is not None for socket in await asyncio.gather(*batch))
        assert opened == MAX_SOCKETS
        for url in urls:
            assert await open_socket(stack, url, ATTACKER) is None
            assert await open_socket(stack, url, f"{VICTIM}, {ATTACKER}") is None

            assert await open_socket(stack, url, VICTIM) is not None
