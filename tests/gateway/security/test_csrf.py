"""What browsers are made to do by pages: whose requests count, what answers carry, and which cookie opens what."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError
from starlette.responses import Response
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin, Subprotocol

from gateway.app import create_app
from gateway.dependencies import Dependencies
from gateway.sessions.cookies import COOKIE, SECURE_COOKIE, HttpSessionCookie
from infrastructure.caching.cache import Cache
from tests.gateway.fakes import ADA, TOKEN, Services, session, settings
from tests.gateway.live_gateway import WHO, running_gateway

FRIEND, STRANGER = "https://app.example.com", "https://evil.example"
LOG_OUT = "mutation { logout { ok } }"


@asynccontextmanager
async def gateway(temporal_address: str, services: Services, folder: Path, url: str, **others: Any) -> Any:
    proxies = {"trusted_proxies": ("127.0.0.1/32",)}  # the address that the client has
    known = settings(temporal_address, data_dir=folder, allowed_origins=(FRIEND,), **proxies | others)
    app = create_app(known, Dependencies(services=services.transport))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url=url) as client:
        yield client


@pytest.fixture
async def client(temporal_address: str, services: Services, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with gateway(temporal_address, services, tmp_path, "http://gateway.localhost") as client:
        yield client


@pytest.fixture
async def over_tls(temporal_address: str, services: Services, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with gateway(temporal_address, services, tmp_path, "https://gateway.localhost") as client:
        yield client


async def who(client: httpx.AsyncClient, **headers: str) -> Any:
    """The id of the viewer, None for nobody; the status where the request is refused."""
    answer = await client.post("/graphql", json={"query": WHO}, headers=headers)
    if answer.status_code != 200:
        return answer.status_code
    viewer = (answer.json()["data"] or {}).get("viewer")
    return viewer and viewer["user"]["id"]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, ADA),
        ({"origin": "http://gateway.localhost"}, ADA),
        ({"origin": "http://gateway.localhost:80"}, ADA),
        ({"origin": "https://gateway.localhost"}, ADA),
        ({"origin": "http://gateway.localhost", "x-forwarded-proto": "https"}, 403),
        ({"origin": "https://gateway.localhost", "host": "gateway.localhost:443"}, ADA),
        ({"origin": "https://elsewhere.test", "sec-fetch-site": "same-origin"}, ADA),
        ({"origin": FRIEND}, ADA),
        ({"origin": STRANGER}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"origin": "https://["}, 403),
        ({"origin": "http://gateway.localhost.evil.example"}, 403),
        ({"origin": f"{FRIEND}.evil.example"}, 403),
        ({"origin": f"{FRIEND}:444"}, 403),
        ({"origin": "http://gateway.localhost:8080"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "none"}, ADA),
    ],
)
async def test_only_pages_of_known_origins_use_a_viewers_cookie(
    client: httpx.AsyncClient, headers: dict[str, str], expected: object
) -> None:
    client.cookies.set(COOKIE, TOKEN)
    assert await who(client, **headers) == expected


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": "text/plain; application/json"},
        {},
    ],
)
async def test_what_a_form_could_send_is_not_taken_with_a_cookie(
    client: httpx.AsyncClient, services: Services, headers: dict[str, str]
) -> None:
    client.cookies.set(COOKIE, TOKEN)
    body = b'{"query": "mutation { logout { ok } }"}'
    assert (await client.post("/graphql", content=body, headers=headers)).status_code == 403
    deliberate = await client.post("/graphql", content=body, headers={**headers, "apollo-require-preflight": "1"})
    assert 400 <= deliberate.status_code < 500, "meant, but no JSON"
    assert services.asked("auth/end_session") == []


async def test_nothing_is_done_by_an_address_alone(client: httpx.AsyncClient, services: Services) -> None:
    client.cookies.set(COOKIE, TOKEN)
    for accept in ("application/json", "text/event-stream", "text/html"):
        answer = await client.get("/graphql", params={"query": LOG_OUT}, headers={"accept": accept})
        assert answer.status_code == 405
    assert services.asked("auth/end_session") == []


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": STRANGER, "accept": "text/event-stream"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "script"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
    ],
)
async def test_nothing_is_read_by_an_address_that_another_site_names(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    client.cookies.set(COOKIE, TOKEN)
    assert (await client.get("/graphql", params={"query": WHO}, headers=headers)).status_code == 403


async def test_a_preflight_of_a_known_origin_is_told_what_it_may_do_and_one_of_a_stranger_nothing(
    client: httpx.AsyncClient,
) -> None:
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "content-type,authorization"}
    friend = await client.options("/graphql", headers={**asked, "origin": FRIEND})
    assert friend.status_code == 200
    assert friend.headers["access-control-allow-origin"] == FRIEND
    assert friend.headers["access-control-allow-credentials"] == "true"
    stranger = await client.options("/graphql", headers={**asked, "origin": STRANGER})
    assert stranger.status_code == 400
    assert "access-control-allow-origin" not in stranger.headers


async def test_a_frontend_of_a_known_origin_may_read_its_answers(client: httpx.AsyncClient) -> None:
    client.cookies.set(COOKIE, TOKEN)
    answer = await client.post("/graphql", json={"query": WHO}, headers={"origin": FRIEND})
    assert answer.headers["access-control-allow-origin"] == FRIEND
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert "x-request-id" in answer.headers["access-control-expose-headers"]
    assert "Origin" in answer.headers["vary"]


@pytest.mark.parametrize("path", ["/graphql", "/graphql/schema", "/graphiql", "/healthz", "/nowhere", "/uploads/x"])
async def test_every_answer_says_what_a_browser_may_not_do_with_it(client: httpx.AsyncClient, path: str) -> None:
    headers = (await client.get(path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "script-src" not in headers["content-security-policy"] or path == "/graphiql"
    assert "unsafe-inline" not in headers["content-security-policy"].partition("script-src")[2].partition(";")[0]
    assert "strict-transport-security" not in headers
    assert "server" not in headers


async def test_over_tls_browsers_are_told_to_come_by_tls_only(over_tls: httpx.AsyncClient) -> None:
    assert (await over_tls.get("/healthz")).headers["strict-transport-security"] == "max-age=31536000"


async def test_over_tls_the_cookie_is_one_that_no_other_host_can_set(over_tls: httpx.AsyncClient) -> None:
    answer = await over_tls.post("/graphql", json={"query": LOG_OUT}, headers={"cookie": f"{SECURE_COOKIE}={TOKEN}"})
    assert answer.headers["set-cookie"] == f"{SECURE_COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax; Secure"
    kept = Response()
    HttpSessionCookie(kept, secure=True).keep(TOKEN, session())
    name, *parts = kept.headers["set-cookie"].split("; ")
    assert name == f"{SECURE_COOKIE}={TOKEN}"
    assert {"Path=/", "HttpOnly", "SameSite=Lax", "Secure"} < set(parts)
    assert not any(part.startswith("Domain") for part in parts)


async def test_over_tls_a_cookie_that_was_planted_in_clear_opens_nothing(over_tls: httpx.AsyncClient) -> None:
    assert await who(over_tls, cookie=f"{COOKIE}={TOKEN}") is None
    assert await who(over_tls, cookie=f"{SECURE_COOKIE}={TOKEN}") == ADA
    assert await who(over_tls, cookie=f"{COOKIE}=planted; {SECURE_COOKIE}={TOKEN}") == ADA


async def test_in_clear_only_the_plain_cookie_counts_and_a_proxy_says_when_it_came_by_tls(
    client: httpx.AsyncClient,
) -> None:
    assert await who(client, cookie=f"{COOKIE}={TOKEN}") == ADA
    assert await who(client, cookie=f"{SECURE_COOKIE}={TOKEN}") is None
    assert await who(client, cookie=f"{SECURE_COOKIE}={TOKEN}", **{"x-forwarded-proto": "https"}) == ADA
    assert await who(client, cookie=f"{COOKIE}={TOKEN}", **{"x-forwarded-proto": "https"}) is None


async def test_a_gateway_that_is_public_by_tls_believes_so_whatever_its_proxy_says(
    temporal_address: str, services: Services, tmp_path: Path
) -> None:
    address = "https://gateway.example.com"
    async with gateway(temporal_address, services, tmp_path, "http://inside", public_url=address) as client:
        answer = await client.post("/graphql", json={"query": LOG_OUT}, headers={"cookie": f"{SECURE_COOKIE}={TOKEN}"})
        assert answer.headers["set-cookie"].startswith(SECURE_COOKIE)
        assert "strict-transport-security" in answer.headers


async def test_sockets_open_to_pages_of_known_origins_only(
    temporal_address: str, services: Services, cache: Cache, tmp_path: Path
) -> None:
    known = settings(temporal_address, data_dir=tmp_path, allowed_origins=(FRIEND,))
    protocols = [Subprotocol("graphql-transport-ws")]
    async with running_gateway(known, services, cache=cache) as gateway:
        for origin in (None, FRIEND, gateway.http):
            async with connect(gateway.url, subprotocols=protocols, origin=Origin(origin) if origin else None):
                pass
        for origin in (STRANGER, "null", f"http://127.0.0.1:{gateway.port + 1}"):
            with pytest.raises(InvalidStatus) as refused:
                async with connect(gateway.url, subprotocols=protocols, origin=Origin(origin)):
                    pass
            assert refused.value.response.status_code == 403


@pytest.mark.parametrize("origins", [("*",), ("app.example.com",), ("https://app.example.com/path",), ("null",)])
def test_an_allowed_origin_that_is_none_stops_the_start(origins: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError, match="no origin"):
        settings("127.0.0.1:1", allowed_origins=origins)


def test_allowed_origins_are_taken_as_browsers_write_them() -> None:
    known = settings("127.0.0.1:1", allowed_origins=("https://App.Example.com:443/", "http://[::1]:3000"))
    assert known.allowed_origins == ("https://app.example.com", "http://[::1]:3000")
