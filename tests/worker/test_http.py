"""The HTTP server of a worker: its responses to unexpected errors, and its keep-alive time."""

from __future__ import annotations

import asyncio

import asyncpg
import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from contracts.errors import DeadlineExceeded, ErrorRecord, ServiceUnavailable, from_record
from tests.servers import HOST
from worker.dev.ports import free_port
from worker.http import serve_services, services_app


async def response_to(error: Exception) -> httpx.Response:
    async def endpoint(_request: Request) -> Response:
        raise error

    app = services_app([Route("/failing", endpoint, methods=["POST"])])
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://services") as http:
        return await http.post("/failing")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionRefusedError(), ServiceUnavailable),
        (asyncpg.CannotConnectNowError(), ServiceUnavailable),
        (asyncpg.ConnectionDoesNotExistError(), ServiceUnavailable),
        (TimeoutError(), DeadlineExceeded),
    ],
)
async def test_an_unavailable_system_is_reported_as_a_retryable_error(
    error: Exception, expected: type[Exception]
) -> None:
    response = await response_to(error)
    assert type(from_record(ErrorRecord.model_validate_json(response.content))) is expected
    assert response.status_code in (503, 504)


async def test_any_other_error_is_an_empty_internal_error() -> None:
    response = await response_to(RuntimeError("secret"))
    assert (response.status_code, response.content) == (500, b"")


async def test_an_idle_connection_stays_open_longer_than_the_gateway_keeps_it() -> None:
    """If both closed idle connections after the same time, a call at that moment would fail."""
    stop, port = asyncio.Event(), free_port(HOST)
    serving = asyncio.create_task(serve_services(services_app([]), host=HOST, port=port, stop=stop))
    try:
        reader, writer = await _connect(port)
        for pause in (0, 5.5):
            await asyncio.sleep(pause)
            writer.write(f"GET /healthz HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode())
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            while (await reader.readline()).strip():
                pass
            assert await reader.readexactly(15) == b'{"status":"ok"}'
        writer.close()
    finally:
        stop.set()
        await serving


async def _connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(5):
        while True:
            try:
                return await asyncio.open_connection(HOST, port)
            except OSError:
                await asyncio.sleep(0.05)
