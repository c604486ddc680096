"""What the services' host answers when an endpoint runs into trouble."""

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


async def answer_to(error: Exception) -> httpx.Response:
    async def endpoint(_request: Request) -> Response:
        raise error

    app = services_app([Route("/trouble", endpoint, methods=["POST"])])
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://services") as http:
        return await http.post("/trouble")


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (ConnectionRefusedError(), ServiceUnavailable),
        (asyncpg.CannotConnectNowError(), ServiceUnavailable),
        (asyncpg.ConnectionDoesNotExistError(), ServiceUnavailable),
        (TimeoutError(), DeadlineExceeded),
    ],
)
async def test_a_part_that_is_away_is_worth_another_try(error: Exception, answer: type[Exception]) -> None:
    told = await answer_to(error)
    assert type(from_record(ErrorRecord.model_validate_json(told.content))) is answer
    assert told.status_code in (503, 504)


async def test_all_else_is_nobodys_business() -> None:
    told = await answer_to(RuntimeError("secret"))
    assert (told.status_code, told.content) == (500, b"")


async def test_a_connection_is_not_closed_under_a_gateway_that_still_uses_it() -> None:
    """Both closed idle connections after 5 s: a call that came just then failed as if the service were away."""
    stop, port = asyncio.Event(), free_port(HOST)
    serving = asyncio.create_task(serve_services(services_app([]), host=HOST, port=port, stop=stop))
    try:
        reader, writer = await _connected(port)
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


async def _connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(5):
        while True:
            try:
                return await asyncio.open_connection(HOST, port)
            except OSError:
                await asyncio.sleep(0.05)
