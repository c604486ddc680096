"""Errors show a code and a request id to find them in the log, and never a type, a path or a statement."""

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
from tests.gateway.fakes import KEY, TOKEN, FakeServices, settings
from tests.gateway.http.event_streams import open_event_stream
from tests.gateway.live_gateway import Gateway, authorization, running_gateway
from tests.security.test_codec import settings as with_codec

SECRET = 'SELECT "password_hash" FROM "auth_credential" at postgres://adx:hunter2@10.0.0.7/adx in /srv/adx/activities'
INTERNAL_WORDS = (
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
    """An exception that no code expects."""


UNEXPECTED_ERRORS = {
    "a bug": BugError(SECRET),
    "an unavailable database": OperationalError(SECRET),
    "an error of a library": KeyError(SECRET),
}


@pytest.fixture(autouse=True)
def captured_logs() -> Iterator[None]:
    """Capture the log, because tracebacks of expected errors are slow to render."""
    with structlog.testing.capture_logs():
        yield


def failing_services(error: Exception) -> FakeServices:
    """Return fake services in which the users service raises this error."""

    def fail(caller: object, body: object) -> None:
        raise error

    return FakeServices({"users/get_users": fail})


StartGateway = Callable[[FakeServices], AbstractAsyncContextManager[Gateway]]
SendQuery = Callable[[Gateway], Awaitable[tuple[str, dict[str, Any]]]]
"""Executes the query; returns the whole response as text, and its only error."""


@pytest.fixture
def start_gateway(temporal_address: str, tmp_path: Path) -> StartGateway:
    """A function that runs a gateway with the given services."""
    return lambda services: running_gateway(settings(temporal_address, data_dir=tmp_path), services)


async def errors_over_http(gateway: Gateway) -> tuple[str, dict[str, Any]]:
    """Execute the query over HTTP; return the response as text, and its only error."""
    async with httpx.AsyncClient(trust_env=False) as http:
        response = await http.post(
            f"{gateway.http}/graphql",
            json={"query": QUERY},
            headers={"authorization": f"Bearer {TOKEN}", "x-request-id": "mine"},
        )
    assert response.headers["x-request-id"] == "mine"
    (error,) = response.json()["errors"]
    return response.text, error


async def errors_over_a_socket(gateway: Gateway) -> tuple[str, dict[str, Any]]:
    """Execute the query on a websocket; return all messages as text, and the only error."""
    async with gateway.open(authorization(), headers={"x-request-id": "mine"}) as socket:
        messages = await socket.execute(QUERY)
    (error,) = messages[0]["payload"]["errors"]
    return json.dumps(messages), error


async def errors_in_an_event_stream(gateway: Gateway) -> tuple[str, dict[str, Any]]:
    """Execute the query as an event stream; return all results as text, and the only error."""
    async with httpx.AsyncClient(trust_env=False) as http:
        headers = {"x-request-id": "mine"}
        async with open_event_stream(http, gateway, QUERY, headers=headers) as events:
            shown = [event.data async for event in events if event.kind == "next"]
    (error,) = shown[0]["errors"]
    return json.dumps(shown), error


TRANSPORTS = [errors_over_http, errors_over_a_socket, errors_in_an_event_stream]


@pytest.mark.parametrize("send_query", TRANSPORTS)
async def test_unexpected_error_shows_only_a_code_and_a_request_id(
    start_gateway: StartGateway, send_query: SendQuery
) -> None:
    for name, unexpected_error in UNEXPECTED_ERRORS.items():
        async with start_gateway(failing_services(unexpected_error)) as gateway:
            text, error = await send_query(gateway)
        assert error["extensions"] == {"code": "INTERNAL", "requestId": "mine"}, name
        assert error["message"] == "Something went wrong here."
        assert set(error) <= {"message", "locations", "path", "extensions"}
        assert [word for word in INTERNAL_WORDS if word in text] == [], text


@pytest.mark.parametrize("send_query", TRANSPORTS)
async def test_every_domain_error_shows_its_code_and_no_internals(
    start_gateway: StartGateway, send_query: SendQuery
) -> None:
    async with start_gateway(services := FakeServices()) as gateway:
        for kind in all_errors():
            services.handlers["users/get_users"] = failing_services(kind()).handlers["users/get_users"]
            text, error = await send_query(gateway)
            assert error["extensions"]["code"] in list(ErrorCode), kind
            assert error["extensions"]["code"] == expected_code(kind), text
            assert kind.__name__ not in text
            assert [word for word in INTERNAL_WORDS if word in text] == [], text


def expected_code(kind: type[DomainError]) -> str:
    """Return the code that a client receives for this error of a service.

    NotSignedIn means that the service has refused the gateway itself, which is an internal error.
    """
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


async def test_every_http_refusal_shows_its_code_and_request_id(start_gateway: StartGateway) -> None:
    async with (
        start_gateway(FakeServices()) as gateway,
        httpx.AsyncClient(trust_env=False, base_url=gateway.http) as http,
    ):
        for n, (method, path, request_options, status, code) in enumerate(REFUSALS):
            headers = request_options.pop("headers", {}) | {"x-request-id": f"r-{n}"}
            response = await http.request(method, path, headers=headers, **request_options)
            (error,) = response.json()["errors"]
            shown = (response.status_code, error["extensions"]["code"], error["extensions"]["requestId"])
            assert shown == (status, code, f"r-{n}"), (method, path)
            assert error["extensions"].get("reason") == ("NOT_PERMITTED" if code == "FORBIDDEN" else None)
            assert response.headers["x-request-id"] == f"r-{n}"


async def test_every_refusal_on_a_websocket_or_event_stream_shows_code_and_request_id(
    start_gateway: StartGateway,
) -> None:
    async with (
        start_gateway(FakeServices()) as gateway,
        gateway.open(headers={"x-request-id": "mine"}) as socket,
        httpx.AsyncClient(trust_env=False, base_url=gateway.http) as http,
    ):
        for document, code in DOCUMENTS:
            await socket.send({"id": "1", "type": "subscribe", "payload": document})
            message = await socket.receive()
            while message["type"] == "complete":
                message = await socket.receive()
            (error,) = message["payload"] if message["type"] == "error" else message["payload"]["errors"]
            assert (error["extensions"]["code"], error["extensions"]["requestId"]) == (code, "mine"), document

            headers = {"x-request-id": "mine", "accept": "text/event-stream"}
            response = await http.post("/graphql", json=document, headers=headers)
            assert f'"code":"{code}"' in response.text, (document, response.text)
            assert '"requestId":"mine"' in response.text


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
async def test_malformed_responses_of_a_service_are_not_shown(
    start_gateway: StartGateway, response: httpx.Response
) -> None:
    class MalformedServices(FakeServices):
        async def _respond(self, request: httpx.Request) -> httpx.Response:
            if request.url.path == "/users/get_users":
                return httpx.Response(response.status_code, content=response.content)
            return await super()._respond(request)

    async with start_gateway(MalformedServices()) as gateway:
        text, error = await errors_over_http(gateway)
    assert error["extensions"] == {"code": "INTERNAL", "requestId": "mine"}
    assert [word for word in INTERNAL_WORDS if word in text] == [], text


async def test_unexpected_error_outside_graphql_shows_only_code_and_request_id(
    temporal_address: str, tmp_path: Path
) -> None:
    def fail(caller: object, body: object) -> None:
        raise BugError(SECRET)

    services = FakeServices({"auth/get_current_session": fail})
    async with (
        running_gateway(with_codec(temporal_address, tmp_path), services) as gateway,
        httpx.AsyncClient(trust_env=False) as http,
    ):
        headers = {"authorization": f"Bearer {TOKEN}", "x-request-id": "mine"}
        response = await http.post(f"{gateway.http}/codec/decode", json={}, headers=headers)
    assert response.status_code == 500
    (error,) = response.json()["errors"]
    assert error["extensions"] == {"code": "INTERNAL", "requestId": "mine"}
    assert [word for word in INTERNAL_WORDS if word in response.text] == []


async def test_signed_urls_are_not_logged(temporal_address: str, tmp_path: Path) -> None:
    upload_grant = UploadGrant(
        upload_id="upl_" + "a" * 32,
        tenant_id="ten_" + "a" * 32,
        user_id="usr_" + "a" * 32,
        size=1,
        content_type="text/plain",
    )
    path = TransferTokenSigner(SecretKeys(KEY.encode())).upload_path(upload_grant, utc_now() + timedelta(minutes=5))
    gateway_settings = settings(temporal_address, data_dir=tmp_path, storage_url=f"file://{tmp_path}/files")
    async with running_gateway(gateway_settings, FakeServices()) as gateway, httpx.AsyncClient(trust_env=False) as http:
        (tmp_path / "files").rmdir()
        (tmp_path / "files").write_bytes(b"a file instead of the folder of the storage")
        with structlog.testing.capture_logs() as logs:
            response = await http.put(f"{gateway.http}{path}", content=b"x", headers={"content-type": "text/plain"})
    assert response.status_code == 503
    assert [word for word in INTERNAL_WORDS if word in response.text] == []
    assert path.rpartition("/")[2] not in repr(logs)
    assert [line["event"] for line in logs if line["log_level"] != "info"] == ["storage_unavailable"]
