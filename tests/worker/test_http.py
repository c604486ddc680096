"""What the services' host answers when an endpoint runs into trouble."""

from __future__ import annotations

import asyncpg
import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from contracts.errors import DeadlineExceeded, ErrorRecord, ServiceUnavailable, from_record
from worker.http import services_app


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
