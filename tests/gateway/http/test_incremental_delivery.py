"""Answers in parts: what is deferred comes later over HTTP, to whom understands it, and nowhere else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest
from strawberry.types.execution import PreExecutionError

from contracts.errors import ServiceUnavailable
from schema.schema import build_schema
from tests.gateway.conftest import Ask
from tests.gateway.fakes import ACME, FILE, TOKEN, Services, facts, settings
from tests.gateway.live_gateway import Gateway, introduction, running_gateway

DEFERRED = """
query ($later: Boolean! = true) {
  viewer { dashboard {
    tenant { id }
    ... @defer(if: $later, label: "files") { recentFiles { id } }
  } }
}
"""
PARTS = {"accept": "multipart/mixed;deferSpec=20220824, application/json"}


def parts(answer: httpx.Response) -> list[Any]:
    assert answer.headers["content-type"].startswith('multipart/mixed; boundary="-"')
    bodies = [part.partition("\r\n\r\n")[2] for part in answer.text.split("\r\n---")]
    return [json.loads(body) for body in bodies if body.strip()]


async def ask_for_parts(
    client: httpx.AsyncClient, query: str, accept: dict[str, str] | None = None, **variables: object
) -> httpx.Response:
    headers = {"authorization": f"Bearer {TOKEN}", **(PARTS if accept is None else accept)}
    return await client.post("/graphql", json={"query": query, "variables": variables}, headers=headers)


async def test_what_is_deferred_comes_in_a_later_part(client: httpx.AsyncClient) -> None:
    first, *later = parts(await ask_for_parts(client, DEFERRED))
    assert first["data"] == {"viewer": {"dashboard": {"tenant": {"id": ACME}}}}
    assert first["hasNext"] is True
    (increment,) = [each for part in later for each in part.get("incremental", ())]
    assert increment["data"] == {"recentFiles": [{"id": FILE}]}
    assert increment["path"] == ["viewer", "dashboard"]
    assert increment["label"] == "files"
    assert later[-1]["hasNext"] is False


async def test_an_error_in_a_later_part_is_translated_and_tells_nothing_else(
    client: httpx.AsyncClient, services: Services
) -> None:
    def refuse(caller: object, body: object) -> None:
        raise httpx.ConnectError("refused by 10.0.0.7")

    services.handlers["files/list_files"] = refuse
    answer = await ask_for_parts(client, DEFERRED)
    increments = [each for part in parts(answer) for each in part.get("incremental", ())]
    assert increments[0]["data"] == {"recentFiles": None}
    (error,) = increments[0]["errors"]
    assert facts(error) == {"code": "UPSTREAM_UNAVAILABLE", "service": "files"}
    assert error["path"] == ["viewer", "dashboard", "recentFiles"]
    assert "10.0.0.7" not in answer.text


async def test_trouble_that_ends_a_deferred_part_is_hidden(client: httpx.AsyncClient, services: Services) -> None:
    def trouble(caller: object, body: object) -> None:
        raise ZeroDivisionError("the database is at 10.0.0.7")

    services.handlers["users/get_preferences"] = trouble
    answer = await ask_for_parts(client, "{ viewer { session { id } ... @defer { preferences { theme } } } }")
    completed = [each for part in parts(answer) for each in part.get("completed", ())]
    assert [error["extensions"]["code"] for each in completed for error in each["errors"]] == ["INTERNAL"]
    assert "10.0.0.7" not in answer.text


@pytest.fixture
async def gateway(temporal_address: str, services: Services, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running_gateway(settings(temporal_address, data_dir=tmp_path), services) as gateway:
        yield gateway


async def test_the_first_part_does_not_wait_for_a_slow_source(gateway: Gateway, services: Services) -> None:
    may_answer = asyncio.Event()
    usual = services.handlers["files/list_files"]

    async def slow(caller: Any, body: Any) -> Any:
        await may_answer.wait()
        return usual(caller, body)

    services.handlers["files/list_files"] = slow
    headers = {"authorization": f"Bearer {TOKEN}", **PARTS}
    async with (
        httpx.AsyncClient() as client,
        client.stream("POST", f"{gateway.http}/graphql", json={"query": DEFERRED}, headers=headers) as answer,
    ):
        arriving = answer.aiter_text()
        first = ""
        while ACME not in first:
            first += await anext(arriving)
        assert FILE not in first
        may_answer.set()
        assert FILE in "".join([text async for text in arriving])


async def test_a_client_that_goes_after_the_first_part_leaves_nothing_behind(
    gateway: Gateway, services: Services, capsys: pytest.CaptureFixture[str]
) -> None:
    may_answer = asyncio.Event()

    async def slow(caller: Any, body: Any) -> Any:
        await may_answer.wait()
        raise ServiceUnavailable(service="files")

    services.handlers["files/list_files"] = slow
    headers = {"authorization": f"Bearer {TOKEN}", **PARTS}
    async with httpx.AsyncClient(headers=headers) as client:
        async with client.stream("POST", f"{gateway.http}/graphql", json={"query": DEFERRED}) as answer:
            arriving, first = answer.aiter_text(), ""
            while ACME not in first:
                first += await anext(arriving)
        await asyncio.sleep(0.1)
        may_answer.set()
        await asyncio.sleep(0.2)
        again = await client.post(f"{gateway.http}/graphql", json={"query": "{ viewer { session { id } } }"})
    assert again.json()["data"]["viewer"]
    assert "Traceback" not in capsys.readouterr().out


async def test_a_websocket_has_no_parts_and_says_so(gateway: Gateway) -> None:
    async with gateway.open(introduction()) as socket:
        (message,) = await socket.ask(DEFERRED)
        assert message["type"] == "error"
        (error,) = message["payload"]
        assert facts(error) == {"code": "BAD_USER_INPUT", "fields": []}
        assert "@defer" in error["message"]
        assert (await socket.ask("{ viewer { session { id } } }"))[0]["type"] == "next"


@pytest.mark.parametrize("accept", ["application/json", "*/*", "application/graphql-response+json"])
async def test_a_client_that_takes_json_alone_is_refused_before_anything_is_done(
    client: httpx.AsyncClient, services: Services, accept: str
) -> None:
    answer = await ask_for_parts(client, DEFERRED, {"accept": accept})
    assert answer.status_code == 406
    (error,) = answer.json()["errors"]
    assert facts(error) == {"code": "BAD_USER_INPUT", "fields": []}
    assert "@defer" in error["message"]
    assert services.calls == []


async def test_what_is_not_deferred_after_all_comes_whole_to_anybody(client: httpx.AsyncClient) -> None:
    answer = await ask_for_parts(client, DEFERRED, {"accept": "application/json"}, later=False)
    assert answer.json()["data"]["viewer"]["dashboard"] == {"tenant": {"id": ACME}, "recentFiles": [{"id": FILE}]}
    literal = DEFERRED.replace("$later,", "false,").replace("($later: Boolean! = true)", "")
    assert (await ask_for_parts(client, literal, {"accept": "application/json"})).status_code == 200


async def test_a_transport_that_streams_has_no_parts_and_says_so() -> None:
    """Websockets and event streams take their results from here."""
    async with aclosing(await build_schema().stream(DEFERRED)) as results:
        (result,) = [result async for result in results]
    assert isinstance(result, PreExecutionError)
    assert result.errors is not None
    (error,) = result.errors
    assert error.extensions == {"code": "BAD_USER_INPUT", "fields": []}
    assert error.message == "This connection does not support incremental delivery: remove @defer and @stream."


async def test_text_that_looks_like_it_defers_nothing(ask: Ask) -> None:
    answer = await ask('query ($s: String! = "@defer") { node(id: $s) { id } } # @stream')
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["BAD_USER_INPUT"]
