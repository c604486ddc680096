"""Incremental delivery: deferred fields arrive in later parts of a multipart response, for clients that accept one."""

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
from tests.gateway.conftest import Execute
from tests.gateway.fakes import ACME, FILE, TOKEN, FakeServices, error_extensions, settings
from tests.gateway.live_gateway import Gateway, authorization, running_gateway

DEFERRED = """
query ($later: Boolean! = true) {
  viewer { dashboard {
    tenant { id }
    ... @defer(if: $later, label: "files") { recentFiles { id } }
  } }
}
"""
ACCEPT_MULTIPART = {"accept": "multipart/mixed;deferSpec=20220824, application/json"}


def parts_of(response: httpx.Response) -> list[Any]:
    """Return the JSON bodies of all parts of a multipart response."""
    assert response.headers["content-type"].startswith('multipart/mixed; boundary="-"')
    bodies = [part.partition("\r\n\r\n")[2] for part in response.text.split("\r\n---")]
    return [json.loads(body) for body in bodies if body.strip()]


async def execute_incrementally(
    client: httpx.AsyncClient, query: str, accept: dict[str, str] | None = None, **variables: object
) -> httpx.Response:
    """Post the document with an Accept header that allows incremental delivery, unless another is given."""
    headers = {"authorization": f"Bearer {TOKEN}", **(ACCEPT_MULTIPART if accept is None else accept)}
    return await client.post("/graphql", json={"query": query, "variables": variables}, headers=headers)


async def test_deferred_fields_arrive_in_a_later_part(client: httpx.AsyncClient) -> None:
    first, *later = parts_of(await execute_incrementally(client, DEFERRED))
    assert first["data"] == {"viewer": {"dashboard": {"tenant": {"id": ACME}}}}
    assert first["hasNext"] is True
    (increment,) = [each for part in later for each in part.get("incremental", ())]
    assert increment["data"] == {"recentFiles": [{"id": FILE}]}
    assert increment["path"] == ["viewer", "dashboard"]
    assert increment["label"] == "files"
    assert later[-1]["hasNext"] is False


async def test_error_in_a_later_part_has_its_code_and_reveals_no_details(
    client: httpx.AsyncClient, services: FakeServices
) -> None:
    def fail_to_connect(caller: object, body: object) -> None:
        raise httpx.ConnectError("refused by 10.0.0.7")

    services.handlers["files/list_files"] = fail_to_connect
    response = await execute_incrementally(client, DEFERRED)
    increments = [each for part in parts_of(response) for each in part.get("incremental", ())]
    assert increments[0]["data"] == {"recentFiles": None}
    (error,) = increments[0]["errors"]
    assert error_extensions(error) == {"code": "UPSTREAM_UNAVAILABLE", "service": "files"}
    assert error["path"] == ["viewer", "dashboard", "recentFiles"]
    assert "10.0.0.7" not in response.text


async def test_unexpected_error_in_a_deferred_part_reveals_no_details(
    client: httpx.AsyncClient, services: FakeServices
) -> None:
    def fail(caller: object, body: object) -> None:
        raise ZeroDivisionError("the database is at 10.0.0.7")

    services.handlers["users/get_preferences"] = fail
    response = await execute_incrementally(client, "{ viewer { session { id } ... @defer { preferences { theme } } } }")
    completed = [each for part in parts_of(response) for each in part.get("completed", ())]
    assert [error["extensions"]["code"] for each in completed for error in each["errors"]] == ["INTERNAL"]
    assert "10.0.0.7" not in response.text


@pytest.fixture
async def gateway(temporal_address: str, services: FakeServices, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A running gateway."""
    async with running_gateway(settings(temporal_address, data_dir=tmp_path), services) as gateway:
        yield gateway


async def test_first_part_does_not_wait_for_a_slow_service(gateway: Gateway, services: FakeServices) -> None:
    may_respond = asyncio.Event()
    default_handler = services.handlers["files/list_files"]

    async def slow(caller: Any, body: Any) -> Any:
        await may_respond.wait()
        return default_handler(caller, body)

    services.handlers["files/list_files"] = slow
    headers = {"authorization": f"Bearer {TOKEN}", **ACCEPT_MULTIPART}
    async with (
        httpx.AsyncClient() as client,
        client.stream("POST", f"{gateway.http}/graphql", json={"query": DEFERRED}, headers=headers) as response,
    ):
        chunks = response.aiter_text()
        first = ""
        while ACME not in first:
            first += await anext(chunks)
        assert FILE not in first
        may_respond.set()
        assert FILE in "".join([text async for text in chunks])


async def test_disconnect_after_the_first_part_leaves_no_error_or_task(
    gateway: Gateway, services: FakeServices, capsys: pytest.CaptureFixture[str]
) -> None:
    may_respond = asyncio.Event()

    async def slow(caller: Any, body: Any) -> Any:
        await may_respond.wait()
        raise ServiceUnavailable(service="files")

    services.handlers["files/list_files"] = slow
    headers = {"authorization": f"Bearer {TOKEN}", **ACCEPT_MULTIPART}
    async with httpx.AsyncClient(headers=headers) as client:
        async with client.stream("POST", f"{gateway.http}/graphql", json={"query": DEFERRED}) as response:
            chunks, first = response.aiter_text(), ""
            while ACME not in first:
                first += await anext(chunks)
        await asyncio.sleep(0.1)
        may_respond.set()
        await asyncio.sleep(0.2)
        next_response = await client.post(f"{gateway.http}/graphql", json={"query": "{ viewer { session { id } } }"})
    assert next_response.json()["data"]["viewer"]
    assert "Traceback" not in capsys.readouterr().out


async def test_websocket_refuses_deferred_fields(gateway: Gateway) -> None:
    async with gateway.open(authorization()) as socket:
        (message,) = await socket.execute(DEFERRED)
        assert message["type"] == "error"
        (error,) = message["payload"]
        assert error_extensions(error) == {"code": "BAD_USER_INPUT", "fields": []}
        assert "@defer" in error["message"]
        assert (await socket.execute("{ viewer { session { id } } }"))[0]["type"] == "next"


@pytest.mark.parametrize("accept", ["application/json", "*/*", "application/graphql-response+json"])
async def test_refuses_defer_before_execution_when_the_client_accepts_only_json(
    client: httpx.AsyncClient, services: FakeServices, accept: str
) -> None:
    response = await execute_incrementally(client, DEFERRED, {"accept": accept})
    assert response.status_code == 406
    (error,) = response.json()["errors"]
    assert error_extensions(error) == {"code": "BAD_USER_INPUT", "fields": []}
    assert "@defer" in error["message"]
    assert services.calls == []


async def test_document_whose_defer_is_inactive_returns_one_response(client: httpx.AsyncClient) -> None:
    response = await execute_incrementally(client, DEFERRED, {"accept": "application/json"}, later=False)
    assert response.json()["data"]["viewer"]["dashboard"] == {"tenant": {"id": ACME}, "recentFiles": [{"id": FILE}]}
    literal = DEFERRED.replace("$later,", "false,").replace("($later: Boolean! = true)", "")
    assert (await execute_incrementally(client, literal, {"accept": "application/json"})).status_code == 200


async def test_streaming_execution_refuses_deferred_fields() -> None:
    """Websockets and event streams execute documents by this method."""
    async with aclosing(await build_schema().stream(DEFERRED)) as results:
        (result,) = [result async for result in results]
    assert isinstance(result, PreExecutionError)
    assert result.errors is not None
    (error,) = result.errors
    assert error.extensions == {"code": "BAD_USER_INPUT", "fields": []}
    assert error.message == "This connection does not support incremental delivery: remove @defer and @stream."


async def test_the_word_defer_in_a_string_does_not_defer(execute: Execute) -> None:
    response = await execute('query ($s: String! = "@defer") { node(id: $s) { id } } # @stream')
    assert [error["extensions"]["code"] for error in response["errors"]] == ["BAD_USER_INPUT"]
