"""Batching of session lookups: concurrent lookups share a call, and no result is older than its lookup."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from contracts.auth import Session, SessionMatch
from contracts.callers import Caller
from contracts.errors import DeadlineExceeded, SessionEnded
from infrastructure.circuit_breaker import CircuitBreaker
from infrastructure.signing.secret_keys import SecretKeys
from infrastructure.signing.service_tokens import ServiceTokenSigner
from resolvers.clients.auth import AuthClient
from resolvers.clients.base import ServiceClient
from tests.gateway.fakes import KEY, FakeServices, session

HASHES = [f"{number:064x}" for number in range(500)]


class AuthServiceFake:
    """Fake of the auth service; it responds while ``may_respond`` is set."""

    def __init__(self) -> None:
        self.sessions = {each: session(f"ses_{number:032x}") for number, each in enumerate(HASHES)}
        self.may_respond = asyncio.Event()
        self.may_respond.set()
        self.is_called = asyncio.Event()
        self.concurrent_calls = self.max_concurrent_calls = 0
        self.services = FakeServices({"auth/get_current_session": self._one, "auth/get_current_sessions": self._many})

    async def _one(self, caller: Caller, body: dict[str, Any]) -> Session:
        found = await self._find([body["token_hash"]])
        if not found:
            raise SessionEnded()
        return found[0].session

    async def _many(self, caller: Caller, body: dict[str, Any]) -> list[SessionMatch]:
        assert len(body["token_hashes"]) <= 100
        return await self._find(body["token_hashes"])

    async def _find(self, hashes: list[str]) -> list[SessionMatch]:
        found = [SessionMatch(token_hash=each, session=self.sessions[each]) for each in hashes if each in self.sessions]
        self.concurrent_calls += 1
        self.is_called.set()
        self.max_concurrent_calls = max(self.max_concurrent_calls, self.concurrent_calls)
        await self.may_respond.wait()
        self.concurrent_calls -= 1
        return found


@pytest.fixture
def service() -> AuthServiceFake:
    """A fake of the auth service."""
    return AuthServiceFake()


@pytest.fixture
def client(service: AuthServiceFake) -> AuthClient:
    """A client of the fake."""
    http = httpx.AsyncClient(transport=service.services.transport)
    return AuthClient(
        ServiceClient(
            "auth",
            "http://auth.test",
            http,
            ServiceTokenSigner("auth", SecretKeys(KEY.encode())),
            CircuitBreaker("auth"),
        )
    )


async def test_batches_concurrent_lookups_and_limits_concurrent_calls(
    service: AuthServiceFake, client: AuthClient
) -> None:
    found = await asyncio.gather(*(client.get_current_session(Caller(), each) for each in HASHES * 4))
    assert [each.id for each in found] == [each.id for each in service.sessions.values()] * 4
    assert len(service.services.calls) <= 10
    assert service.max_concurrent_calls <= 4


async def test_single_lookup_is_sent_alone_with_its_request_id(service: AuthServiceFake, client: AuthClient) -> None:
    assert await client.get_current_session(Caller(request_id="r-1"), HASHES[3]) == service.sessions[HASHES[3]]
    ((verb, caller, body),) = service.services.calls
    assert (verb, caller.request_id, body) == ("auth/get_current_session", "r-1", {"token_hash": HASHES[3]})


async def test_invalid_token_does_not_affect_other_lookups_of_the_batch(
    service: AuthServiceFake, client: AuthClient
) -> None:
    del service.sessions[HASHES[1]]
    found = await asyncio.gather(
        *(client.get_current_session(Caller(), each) for each in HASHES[:3]), return_exceptions=True
    )
    assert [type(each) for each in found] == [Session, SessionEnded, Session]


async def test_lookup_does_not_join_a_call_that_started_earlier(service: AuthServiceFake, client: AuthClient) -> None:
    service.may_respond.clear()
    early = asyncio.create_task(client.get_current_session(Caller(), HASHES[0]))
    await service.is_called.wait()
    del service.sessions[HASHES[0]]
    late = asyncio.create_task(client.get_current_session(Caller(), HASHES[0]))
    await asyncio.sleep(0.01)
    service.may_respond.set()
    assert (await early).id == session("ses_" + "0" * 32).id
    with pytest.raises(SessionEnded):
        await late


async def test_time_in_the_queue_does_not_count_towards_the_call_timeout(service: AuthServiceFake) -> None:
    """Each call may take 1.5 seconds, and the last one starts after more than that."""
    http = httpx.AsyncClient(transport=service.services.transport)
    signer, breaker = ServiceTokenSigner("auth", SecretKeys(KEY.encode())), CircuitBreaker("auth")
    client = AuthClient(ServiceClient("auth", "http://auth.test", http, signer, breaker, timeout_seconds=1.5))
    service.may_respond.clear()

    async def respond_regularly() -> None:
        while True:
            await asyncio.sleep(0.8)
            service.may_respond.set()
            await asyncio.sleep(0)
            service.may_respond.clear()

    responding = asyncio.create_task(respond_regularly())
    hashes = [f"{number:064x}" for number in range(1200)]
    found = await asyncio.gather(
        *(client.get_current_session(Caller(), each) for each in hashes), return_exceptions=True
    )
    responding.cancel()
    assert not [each for each in found if isinstance(each, DeadlineExceeded)]
    assert sum(isinstance(each, Session) for each in found) == 500
