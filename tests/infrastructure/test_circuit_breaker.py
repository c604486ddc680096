"""CircuitBreaker: it opens after five failures in a row, and one successful trial call closes it."""

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
OPEN_SECONDS = 0.05
FAILURE_THRESHOLD = 5


class Service:
    """A service that responds by ``handler``, and counts its calls."""

    def __init__(self, handler: Handler, *, seconds: float = 5) -> None:
        self.handler = handler
        self.calls = 0
        http = httpx.AsyncClient(transport=httpx.MockTransport(self._handle))
        breaker = CircuitBreaker("files", open_seconds=OPEN_SECONDS)
        self._client = ServiceClient(
            "files",
            "http://files.test",
            http,
            ServiceTokenSigner("files", SecretKeys(b"k" * 32)),
            breaker,
            timeout_seconds=seconds,
        )

    async def call(self) -> int:
        return await self._client.call("count", Caller(), b"{}", NUMBER)

    async def fail(self, times: int, error: type[Exception] = ServiceUnavailable) -> None:
        for _ in range(times):
            with pytest.raises(error):
                await self.call()

    async def _handle(self, request: httpx.Request) -> httpx.Response:
        self.calls += 1
        return await self.handler(request)


async def succeed(_request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json=1)


async def refuse_connection(_request: httpx.Request) -> NoReturn:
    raise httpx.ConnectError("refused")


async def respond_with_500(_request: httpx.Request) -> httpx.Response:
    return httpx.Response(500, text="Internal Server Error")


def respond_with(error: DomainError) -> Handler:
    async def refuse(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(error.http_status, json=to_record(error).model_dump(mode="json"))

    return refuse


async def test_opens_after_five_failures_in_a_row() -> None:
    service = Service(refuse_connection)
    await service.fail(FAILURE_THRESHOLD)
    assert service.calls == FAILURE_THRESHOLD
    with pytest.raises(ServiceUnavailable) as refused:
        await service.call()
    assert service.calls == FAILURE_THRESHOLD
    assert refused.value.service == "files"
    assert refused.value.retry_after is not None
    assert 0 < refused.value.retry_after <= OPEN_SECONDS + 0.1


async def test_success_resets_the_count_of_failures() -> None:
    service = Service(refuse_connection)
    for _ in range(3):
        service.handler = refuse_connection
        await service.fail(FAILURE_THRESHOLD - 1)
        service.handler = succeed
        assert await service.call() == 1


async def test_fault_of_the_service_counts_as_failure() -> None:
    service = Service(respond_with_500)
    await service.fail(FAILURE_THRESHOLD, RuntimeError)
    await service.fail(1, ServiceUnavailable)
    assert service.calls == FAILURE_THRESHOLD


@pytest.mark.parametrize("error", [InvalidInput(), ServiceUnavailable(service="storage")])
async def test_domain_error_does_not_count_as_failure(error: DomainError) -> None:
    service = Service(respond_with(error))
    await service.fail(3 * FAILURE_THRESHOLD, type(error))
    assert service.calls == 3 * FAILURE_THRESHOLD


async def test_timeout_counts_as_failure() -> None:
    async def silent(_request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(10)
        return httpx.Response(200, json=1)

    service = Service(silent, seconds=0.02)
    await service.fail(FAILURE_THRESHOLD, DeadlineExceeded)
    await service.fail(1, ServiceUnavailable)
    assert service.calls == FAILURE_THRESHOLD


async def test_successful_trial_call_closes_the_breaker() -> None:
    answered = asyncio.Event()

    async def succeed_slowly(request: httpx.Request) -> httpx.Response:
        await answered.wait()
        return await succeed(request)

    service = Service(refuse_connection)
    await service.fail(FAILURE_THRESHOLD)
    await asyncio.sleep(OPEN_SECONDS * 2)
    service.handler = succeed_slowly
    trial = asyncio.create_task(service.call())
    await asyncio.sleep(0)
    await service.fail(20)
    assert service.calls == FAILURE_THRESHOLD + 1
    answered.set()
    assert await trial == 1
    assert await asyncio.gather(*(service.call() for _ in range(10))) == [1] * 10


async def test_failed_trial_call_opens_the_breaker_again() -> None:
    service = Service(refuse_connection)
    await service.fail(FAILURE_THRESHOLD)
    for trials in (1, 2):
        await asyncio.sleep(OPEN_SECONDS * 2)
        await service.fail(10)
        assert service.calls == FAILURE_THRESHOLD + trials


async def test_cancelled_trial_call_does_not_count_and_allows_another() -> None:
    async def silent(_request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(10)
        return httpx.Response(200, json=1)

    service = Service(refuse_connection)
    await service.fail(FAILURE_THRESHOLD)
    await asyncio.sleep(OPEN_SECONDS * 2)
    service.handler = silent
    trial = asyncio.create_task(service.call())
    await asyncio.sleep(0.01)
    trial.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trial
    service.handler = refuse_connection
    await service.fail(10)
    assert service.calls == FAILURE_THRESHOLD + 2  # the cancelled trial call, and another one


async def test_open_breaker_does_not_affect_other_services() -> None:
    service, other = Service(refuse_connection), Service(succeed)
    await service.fail(FAILURE_THRESHOLD + 1)
    assert await other.call() == 1


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
