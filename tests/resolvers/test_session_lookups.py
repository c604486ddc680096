"""Sessions that are looked for at one moment are looked up together, and no answer is older than its question."""

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


class Auth:
    """The service's sessions by hash. ``go``: it answers."""

    def __init__(self) -> None:
        self.open = {each: session(f"ses_{number:032x}") for number, each in enumerate(HASHES)}
        self.go = asyncio.Event()
        self.go.set()
        self.is_asked = asyncio.Event()
        self.under_way = self.most_under_way = 0
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
        found = [SessionMatch(token_hash=each, session=self.open[each]) for each in hashes if each in self.open]
        self.under_way += 1
        self.is_asked.set()
        self.most_under_way = max(self.most_under_way, self.under_way)
        await self.go.wait()
        self.under_way -= 1
        return found


@pytest.fixture
def service() -> Auth:
    return Auth()


@pytest.fixture
def client(service: Auth) -> AuthClient:
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


async def test_many_at_one_moment_are_few_calls_and_few_at_once(service: Auth, client: AuthClient) -> None:
    found = await asyncio.gather(*(client.get_current_session(Caller(), each) for each in HASHES * 4))
    assert [each.id for each in found] == [each.id for each in service.open.values()] * 4
    assert len(service.services.calls) <= 10
    assert service.most_under_way <= 4


async def test_one_alone_is_asked_for_alone_in_the_name_of_its_request(service: Auth, client: AuthClient) -> None:
    assert await client.get_current_session(Caller(request_id="r-1"), HASHES[3]) == service.open[HASHES[3]]
    ((verb, caller, body),) = service.services.calls
    assert (verb, caller.request_id, body) == ("auth/get_current_session", "r-1", {"token_hash": HASHES[3]})


async def test_a_token_that_opens_nothing_takes_nothing_from_the_others(service: Auth, client: AuthClient) -> None:
    del service.open[HASHES[1]]
    found = await asyncio.gather(
        *(client.get_current_session(Caller(), each) for each in HASHES[:3]), return_exceptions=True
    )
    assert [type(each) for each in found] == [Session, SessionEnded, Session]


async def test_who_asks_after_a_session_ended_is_not_answered_by_a_call_that_began_before(
    service: Auth, client: AuthClient
) -> None:
    service.go.clear()
    early = asyncio.create_task(client.get_current_session(Caller(), HASHES[0]))
    await service.is_asked.wait()
    del service.open[HASHES[0]]
    late = asyncio.create_task(client.get_current_session(Caller(), HASHES[0]))
    await asyncio.sleep(0.01)
    service.go.set()
    assert (await early).id == session("ses_" + "0" * 32).id
    with pytest.raises(SessionEnded):
        await late


async def test_waiting_for_a_turn_does_not_count_as_the_services_time(service: Auth) -> None:
    """Each call may take 1.5 seconds, and the last of them begins after more than that."""
    http = httpx.AsyncClient(transport=service.services.transport)
    signer, breaker = ServiceTokenSigner("auth", SecretKeys(KEY.encode())), CircuitBreaker("auth")
    client = AuthClient(ServiceClient("auth", "http://auth.test", http, signer, breaker, timeout_seconds=1.5))
    service.go.clear()

    async def now_and_then() -> None:
        while True:
            await asyncio.sleep(0.8)
            service.go.set()
            await asyncio.sleep(0)
            service.go.clear()

    letting_go = asyncio.create_task(now_and_then())
    hashes = [f"{number:064x}" for number in range(1200)]
    found = await asyncio.gather(
        *(client.get_current_session(Caller(), each) for each in hashes), return_exceptions=True
    )
    letting_go.cancel()
    assert not [each for each in found if isinstance(each, DeadlineExceeded)]
    assert sum(isinstance(each, Session) for each in found) == 500
