"""Errors show a code and the id to find them by in the log: never a type, a path or a statement."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from tortoise.exceptions import OperationalError

from contracts.base import utc_now
from contracts.errors import DomainError, ErrorCode, all_errors
from contracts.transfer_grants import UploadGrant
from infrastructure.signing.secret_keys import SecretKeys
from infrastructure.signing.transfer_tokens import TransferTokenSigner
from tests.gateway.fakes import KEY, TOKEN, Services, settings
from tests.gateway.http.event_streams import following
from tests.gateway.live_gateway import Gateway, introduction, running_gateway
from tests.security.test_codec import settings as with_codec

SECRET = 'SELECT "password_hash" FROM "auth_credential" at postgres://adx:hunter2@10.0.0.7/adx in /srv/adx/activities'
WORDS = (
    "SELECT",
    "auth_credential",
    "postgres",
    "hunter2",
    "10.0.0.7",
    "/srv/",
    "activities",
    "Traceback",
    ".py",
    "Error",
)
QUERY = "{ viewer { user { id } } }"


class BugError(Exception):
    """What nobody foresaw."""


TROUBLES = {
    "a bug": BugError(SECRET),
    "a database that is away": OperationalError(SECRET),
    "nonsense of a library": KeyError(SECRET),
}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


def failing(error: Exception) -> Services:
    def fail(caller: object, body: object) -> None:
        raise error

    return Services({"users/get_users": fail})


Start = Callable[[Services], AbstractAsyncContextManager[Gateway]]
Way = Callable[[Gateway], Awaitable[tuple[str, dict[str, Any]]]]
"""The whole answer as text, and its one error."""


@pytest.fixture
def gateway_of(temporal_address: str, tmp_path: Path) -> Start:
    return lambda services: running_gateway(settings(temporal_address, data_dir=tmp_path), services)


async def errors_over_http(gateway: Gateway) -> tuple[str, dict[str, Any]]:
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.post(
            f"{gateway.http}/graphql",
            json={"query": QUERY},
            headers={"authorization": f"Bearer {TOKEN}", "x-request-id": "mine"},
        )
    assert answer.headers["x-request-id"] == "mine"
    (error,) = answer.json()["errors"]
    return answer.text, error


async def errors_over_a_socket(gateway: Gateway) -> tuple[str, dict[str, Any]]:
    async with gateway.open(introduction(), headers={"x-request-id": "mine"}) as socket:
        messages = await socket.ask(QUERY)
    (error,) = messages[0]["payload"]["errors"]
    return json.dumps(messages), error


async def errors_in_an_event_stream(gateway: Gateway) -> tuple[str, dict[str, Any]]:
    async with httpx.AsyncClient(trust_env=False) as http:
        headers = {"x-request-id": "mine"}
        async with following(http, gateway, QUERY, headers=headers) as events:
            told = [event.data async for event in events if event.kind == "next"]
    (error,) = told[0]["errors"]
    return json.dumps(told), error


WAYS = [errors_over_http, errors_over_a_socket, errors_in_an_event_stream]


@pytest.mark.parametrize("way", WAYS)
async def test_trouble_shows_a_code_and_a_request_id_and_nothing_else(gateway_of: Start, way: Way) -> None:
    for name, trouble in TROUBLES.items():
        async with gateway_of(failing(trouble)) as gateway:
            text, error = await way(gateway)
        assert error["extensions"] == {"code": "INTERNAL", "requestId": "mine"}, name
        assert error["message"] == "Something went wrong here."
        assert set(error) <= {"message", "locations", "path", "extensions"}
        assert [word for word in WORDS if word in text] == [], text


@pytest.mark.parametrize("way", WAYS)
async def test_every_answer_of_the_product_shows_its_code_and_words_for_people(gateway_of: Start, way: Way) -> None:
    async with gateway_of(services := Services()) as gateway:
        for kind in all_errors():
            services.handlers["users/get_users"] = failing(kind()).handlers["users/get_users"]
            text, error = await way(gateway)
            assert error["extensions"]["code"] in list(ErrorCode), kind
            assert error["extensions"]["code"] == expected(kind), text
            assert kind.__name__ not in text
            assert [word for word in WORDS if word in text] == [], text


def expected(kind: type[DomainError]) -> str:
    """A service that says that nobody is signed in has refused the gateway itself: that is trouble."""
    return "INTERNAL" if kind.__name__ == "NotSignedIn" else kind.code.value


JSON = {"content-type": "application/json"}
REFUSALS: list[tuple[str, str, dict[str, Any], int, str]] = [
    ("POST", "/graphql", {"content": b" " * 300_000, "headers": JSON}, 413, "BAD_USER_INPUT"),
    ("POST", "/graphql", {"content": b"nope", "headers": JSON}, 400, "BAD_USER_INPUT"),
    ("POST", "/graphql", {"content": b"query=1"}, 400, "BAD_USER_INPUT"),
    ("POST", "/graphql", {"content": b"query=1", "headers": {"cookie": "a=b"}}, 403, "FORBIDDEN"),
    ("POST", "/graphql", {"json": {}, "headers": {"origin": "https://evil.example"}}, 403, "FORBIDDEN"),
    ("POST", "/graphql", {"json": {}}, 400, "BAD_USER_INPUT"),
    ("POST", "/graphql", {"json": {"query": "{ nope }"}}, 200, "BAD_USER_INPUT"),
    ("POST", "/graphql", {"json": {"query": "{" * 2_000}}, 200, "BAD_USER_INPUT"),
    ("POST", "/graphql", {"json": {"documentId": "a" * 64}}, 200, "PERSISTED_QUERY_NOT_FOUND"),
    ("POST", "/graphql", {"json": {"query": "{ operation(id: 1) { id } }"}}, 200, "UNAUTHENTICATED"),
    ("POST", "/graphql", {"json": {"query": "{ ... @defer { __typename } }"}}, 406, "BAD_USER_INPUT"),
    ("GET", "/graphql", {"params": {"query": "mutation { logout { ok } }"}}, 405, "BAD_USER_INPUT"),
    ("DELETE", "/graphql", {}, 405, "BAD_USER_INPUT"),
    ("GET", "/nowhere", {}, 404, "NOT_FOUND"),
    ("PUT", "/uploads/nonsense", {"content": b"x"}, 403, "FORBIDDEN"),
    ("GET", "/downloads/nonsense", {}, 403, "FORBIDDEN"),
]
DOCUMENTS: list[tuple[dict[str, Any], str]] = [
    ({"query": "{ nope }"}, "BAD_USER_INPUT"),
    ({"query": "{"}, "BAD_USER_INPUT"),
    ({"query": "{" * 2_000}, "BAD_USER_INPUT"),
    ({"query": "{ ... @defer { __typename } }"}, "BAD_USER_INPUT"),
    ({"documentId": "a" * 64}, "PERSISTED_QUERY_NOT_FOUND"),
    ({"documentId": "nonsense"}, "BAD_USER_INPUT"),
    ({"query": 'subscription { operation(id: "tenant-switch-1") { id } }'}, "UNAUTHENTICATED"),
]


async def test_every_refusal_shows_its_code_and_the_id_of_its_request(gateway_of: Start) -> None:
    async with gateway_of(Services()) as gateway, httpx.AsyncClient(trust_env=False, base_url=gateway.http) as http:
        for n, (method, path, sent, status, code) in enumerate(REFUSALS):
            headers = sent.pop("headers", {}) | {"x-request-id": f"r-{n}"}
            answer = await http.request(method, path, headers=headers, **sent)
            (error,) = answer.json()["errors"]
            told = (answer.status_code, error["extensions"]["code"], error["extensions"]["requestId"])
            assert told == (status, code, f"r-{n}"), (method, path)
            assert error["extensions"].get("reason") == ("NOT_PERMITTED" if code == "FORBIDDEN" else None)
            assert answer.headers["x-request-id"] == f"r-{n}"


async def test_so_does_every_refusal_on_a_websocket_and_in_an_event_stream(gateway_of: Start) -> None:
    async with (
        gateway_of(Services()) as gateway,
        gateway.open(headers={"x-request-id": "mine"}) as socket,
        httpx.AsyncClient(trust_env=False, base_url=gateway.http) as http,
    ):
        for document, code in DOCUMENTS:
            await socket.say({"id": "1", "type": "subscribe", "payload": document})
            message = await socket.next()
            while message["type"] == "complete":
                message = await socket.next()
            (error,) = message["payload"] if message["type"] == "error" else message["payload"]["errors"]
            assert (error["extensions"]["code"], error["extensions"]["requestId"]) == (code, "mine"), document

            headers = {"x-request-id": "mine", "accept": "text/event-stream"}
            answer = await http.post("/graphql", json=document, headers=headers)
            assert f'"code":"{code}"' in answer.text, (document, answer.text)
            assert '"requestId":"mine"' in answer.text


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(500, text=f"Traceback: {SECRET}"),
        httpx.Response(200, json={"detail": SECRET}),
        httpx.Response(404, text=SECRET),
        httpx.Response(200, text=SECRET),
    ],
    ids=["a traceback", "another shape", "no such path", "no json"],
)
async def test_what_a_service_says_in_its_trouble_goes_no_further(gateway_of: Start, response: httpx.Response) -> None:
    class Odd(Services):
        async def _answer(self, request: httpx.Request) -> httpx.Response:
            if request.url.path == "/users/get_users":
                return httpx.Response(response.status_code, content=response.content)
            return await super()._answer(request)

    async with gateway_of(Odd()) as gateway:
        text, error = await errors_over_http(gateway)
    assert error["extensions"] == {"code": "INTERNAL", "requestId": "mine"}
    assert [word for word in WORDS if word in text] == [], text


async def test_trouble_outside_of_graphql_shows_no_more(temporal_address: str, tmp_path: Path) -> None:
    def fail(caller: object, body: object) -> None:
        raise BugError(SECRET)

    services = Services({"auth/get_current_session": fail})
    async with (
        running_gateway(with_codec(temporal_address, tmp_path), services) as gateway,
        httpx.AsyncClient(trust_env=False) as http,
    ):
        headers = {"authorization": f"Bearer {TOKEN}", "x-request-id": "mine"}
        answer = await http.post(f"{gateway.http}/codec/decode", json={}, headers=headers)
    assert answer.status_code == 500
    (error,) = answer.json()["errors"]
    assert error["extensions"] == {"code": "INTERNAL", "requestId": "mine"}
    assert [word for word in WORDS if word in answer.text] == []


async def test_an_address_that_opens_something_is_not_written_down(temporal_address: str, tmp_path: Path) -> None:
    grant = UploadGrant(
        upload_id="upl_" + "a" * 32,
        tenant_id="ten_" + "a" * 32,
        user_id="usr_" + "a" * 32,
        size=1,
        content_type="text/plain",
    )
    path = TransferTokenSigner(SecretKeys(KEY.encode())).upload_path(grant, utc_now() + timedelta(minutes=5))
    settled = settings(temporal_address, data_dir=tmp_path, storage_url=f"file://{tmp_path}/files")
    async with running_gateway(settled, Services()) as gateway, httpx.AsyncClient(trust_env=False) as http:
        (tmp_path / "files").rmdir()
        (tmp_path / "files").write_bytes(b"where the folder of the storage should be")
        with structlog.testing.capture_logs() as logs:
            answer = await http.put(f"{gateway.http}{path}", content=b"x", headers={"content-type": "text/plain"})
    assert answer.status_code == 503
    assert [word for word in WORDS if word in answer.text] == []
    assert path.rpartition("/")[2] not in repr(logs)
    assert [line["event"] for line in logs if line["log_level"] != "info"] == ["storage_unavailable"]
