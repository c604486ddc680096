"""A dead service: it is left alone after five failures, costs nothing meanwhile, and is tried again by one call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn

import httpx
import pytest
from pydantic import TypeAdapter

from contracts.callers import Caller
from contracts.errors import DeadlineExceeded, DomainError, InvalidInput, ServiceUnavailable, to_record
from infrastructure.circuit_breaker import CircuitBreaker
from infrastructure.signing.secret_keys import SecretKeys
from infrastructure.signing.service_tokens import ServiceTokenSigner
from resolvers.clients.base import ServiceClient

Handler = Callable[[httpx.Request], Awaitable[httpx.Response]]

NUMBER = TypeAdapter(int)
SOON = 0.05
FAILURE_THRESHOLD = 5


class Service:
    """A service that answers as ``answer`` says, and how often it was called."""

    def __init__(self, answer: Handler, *, seconds: float = 5) -> None:
        self.answer = answer
        self.called = 0
        http = httpx.AsyncClient(transport=httpx.MockTransport(self._handle))
        breaker = CircuitBreaker("files", open_seconds=SOON)
        self._calls = ServiceClient(
            "files",
            "http://files.test",
            http,
            ServiceTokenSigner("files", SecretKeys(b"k" * 32)),
            breaker,
            timeout_seconds=seconds,
        )

    async def ask(self) -> int:
        return await self._calls.call("count", Caller(), b"{}", NUMBER)

    async def fail(self, times: int, error: type[Exception] = ServiceUnavailable) -> None:
        for _ in range(times):
            with pytest.raises(error):
                await self.ask()

    async def _handle(self, request: httpx.Request) -> httpx.Response:
        self.called += 1
        return await self.answer(request)


async def well(_request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json=1)


async def dead(_request: httpx.Request) -> NoReturn:
    raise httpx.ConnectError("refused")


async def broken(_request: httpx.Request) -> httpx.Response:
    return httpx.Response(500, text="Internal Server Error")


def refusing(error: DomainError) -> Handler:
    async def refuse(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(error.http_status, json=to_record(error).model_dump(mode="json"))

    return refuse


async def test_opens_after_five_failures_in_a_row() -> None:
    service = Service(dead)
    await service.fail(FAILURE_THRESHOLD)
    assert service.called == FAILURE_THRESHOLD
    with pytest.raises(ServiceUnavailable) as refused:
        await service.ask()
    assert service.called == FAILURE_THRESHOLD
    assert refused.value.service == "files"
    assert refused.value.retry_after is not None
    assert 0 < refused.value.retry_after <= SOON + 0.1


async def test_success_resets_the_count_of_failures() -> None:
    service = Service(dead)
    for _ in range(3):
        service.answer = dead
        await service.fail(FAILURE_THRESHOLD - 1)
        service.answer = well
        assert await service.ask() == 1


async def test_fault_of_the_service_counts_as_failure() -> None:
    service = Service(broken)
    await service.fail(FAILURE_THRESHOLD, RuntimeError)
    await service.fail(1, ServiceUnavailable)
    assert service.called == FAILURE_THRESHOLD


@pytest.mark.parametrize("error", [InvalidInput(), ServiceUnavailable(service="storage")])
async def test_domain_error_does_not_count_as_failure(error: DomainError) -> None:
    service = Service(refusing(error))
    await service.fail(3 * FAILURE_THRESHOLD, type(error))
    assert service.called == 3 * FAILURE_THRESHOLD


async def test_timeout_counts_as_failure() -> None:
    async def silent(_request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(10)
        return httpx.Response(200, json=1)

    service = Service(silent, seconds=0.02)
    await service.fail(FAILURE_THRESHOLD, DeadlineExceeded)
    await service.fail(1, ServiceUnavailable)
    assert service.called == FAILURE_THRESHOLD


async def test_successful_trial_call_closes_the_breaker() -> None:
    answered = asyncio.Event()

    async def slowly_well(request: httpx.Request) -> httpx.Response:
        await answered.wait()
        return await well(request)

    service = Service(dead)
    await service.fail(FAILURE_THRESHOLD)
    await asyncio.sleep(SOON * 2)
    service.answer = slowly_well
    trial = asyncio.create_task(service.ask())
    await asyncio.sleep(0)
    await service.fail(20)
    assert service.called == FAILURE_THRESHOLD + 1
    answered.set()
    assert await trial == 1
    assert await asyncio.gather(*(service.ask() for _ in range(10))) == [1] * 10


async def test_failed_trial_call_opens_the_breaker_again() -> None:
    service = Service(dead)
    await service.fail(FAILURE_THRESHOLD)
    for trials in (1, 2):
        await asyncio.sleep(SOON * 2)
        await service.fail(10)
        assert service.called == FAILURE_THRESHOLD + trials


async def test_cancelled_trial_call_does_not_count_and_allows_another() -> None:
    async def silent(_request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(10)
        return httpx.Response(200, json=1)

    service = Service(dead)
    await service.fail(FAILURE_THRESHOLD)
    await asyncio.sleep(SOON * 2)
    service.answer = silent
    trial = asyncio.create_task(service.ask())
    await asyncio.sleep(0.01)
    trial.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trial
    service.answer = dead
    await service.fail(10)
    assert service.called == FAILURE_THRESHOLD + 2  # the one that was cancelled, and one more trial


async def test_open_breaker_does_not_affect_other_services() -> None:
    service, other = Service(dead), Service(well)
    await service.fail(FAILURE_THRESHOLD + 1)
    assert await other.ask() == 1


async def test_stays_open_for_two_seconds_by_default() -> None:
    breaker = CircuitBreaker("files")
    for _ in range(FAILURE_THRESHOLD):
        assert not breaker.is_open
        with pytest.raises(ConnectionError):
            async with breaker.guard():
                raise ConnectionError
    assert breaker.is_open
    with pytest.raises(ServiceUnavailable) as refused:
        async with breaker.guard():
            raise AssertionError
    assert refused.value.retry_after is not None
    assert 1 < refused.value.retry_after <= 2.1
