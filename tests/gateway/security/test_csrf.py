"""Browser security: allowed origins, CSRF protection, security headers and session cookies."""

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
from tests.gateway.fakes import ADA, TOKEN, FakeServices, session, settings
from tests.gateway.live_gateway import VIEWER_QUERY, running_gateway

ALLOWED_ORIGIN, OTHER_ORIGIN = "https://app.example.com", "https://evil.example"
LOG_OUT = "mutation { logout { ok } }"


@asynccontextmanager
async def http_client(temporal_address: str, services: FakeServices, folder: Path, url: str, **others: Any) -> Any:
    """Run a gateway at this URL that allows one origin; yield an HTTP client of it."""
    proxies = {"trusted_proxies": ("127.0.0.1/32",)}  # the address of the test client
    configured = settings(temporal_address, data_dir=folder, allowed_origins=(ALLOWED_ORIGIN,), **proxies | others)
    app = create_app(configured, Dependencies(services=services.transport))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url=url) as client:
        yield client


@pytest.fixture
async def client(temporal_address: str, services: FakeServices, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of a gateway that is reached without TLS."""
    async with http_client(temporal_address, services, tmp_path, "http://gateway.localhost") as client:
        yield client


@pytest.fixture
async def tls_client(temporal_address: str, services: FakeServices, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of a gateway that is reached by TLS."""
    async with http_client(temporal_address, services, tmp_path, "https://gateway.localhost") as client:
        yield client


async def viewer_id(client: httpx.AsyncClient, **headers: str) -> Any:
    """Return the id of the viewer, None without a session, or the status of a refused request."""
    response = await client.post("/graphql", json={"query": VIEWER_QUERY}, headers=headers)
    if response.status_code != 200:
        return response.status_code
    viewer = (response.json()["data"] or {}).get("viewer")
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
        ({"origin": ALLOWED_ORIGIN}, ADA),
        ({"origin": OTHER_ORIGIN}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"origin": "https://["}, 403),
        ({"origin": "http://gateway.localhost.evil.example"}, 403),
        ({"origin": f"{ALLOWED_ORIGIN}.evil.example"}, 403),
        ({"origin": f"{ALLOWED_ORIGIN}:444"}, 403),
        ({"origin": "http://gateway.localhost:8080"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "none"}, ADA),
    ],
)
async def test_only_pages_of_allowed_origins_use_the_session_cookie(
    client: httpx.AsyncClient, headers: dict[str, str], expected: object
) -> None:
    client.cookies.set(COOKIE, TOKEN)
    assert await viewer_id(client, **headers) == expected


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
async def test_refuses_requests_with_a_cookie_that_a_form_could_send(
    client: httpx.AsyncClient, services: FakeServices, headers: dict[str, str]
) -> None:
    client.cookies.set(COOKIE, TOKEN)
    body = b'{"query": "mutation { logout { ok } }"}'
    assert (await client.post("/graphql", content=body, headers=headers)).status_code == 403
    with_preflight_header = await client.post(
        "/graphql", content=body, headers={**headers, "apollo-require-preflight": "1"}
    )
    assert 400 <= with_preflight_header.status_code < 500, "allowed by the header, but not JSON"
    assert services.requests_to("auth/end_session") == []


async def test_get_requests_execute_no_mutation(client: httpx.AsyncClient, services: FakeServices) -> None:
    client.cookies.set(COOKIE, TOKEN)
    for accept in ("application/json", "text/event-stream", "text/html"):
        response = await client.get("/graphql", params={"query": LOG_OUT}, headers={"accept": accept})
        assert response.status_code == 405
    assert services.requests_to("auth/end_session") == []


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": OTHER_ORIGIN, "accept": "text/event-stream"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "script"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
    ],
)
async def test_refuses_get_requests_from_other_sites(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    client.cookies.set(COOKIE, TOKEN)
    assert (await client.get("/graphql", params={"query": VIEWER_QUERY}, headers=headers)).status_code == 403


async def test_preflight_allows_only_known_origins(
    client: httpx.AsyncClient,
) -> None:
    preflight_headers = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type,authorization",
    }
    allowed = await client.options("/graphql", headers={**preflight_headers, "origin": ALLOWED_ORIGIN})
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == ALLOWED_ORIGIN
    assert allowed.headers["access-control-allow-credentials"] == "true"
    denied = await client.options("/graphql", headers={**preflight_headers, "origin": OTHER_ORIGIN})
    assert denied.status_code == 400
    assert "access-control-allow-origin" not in denied.headers


async def test_pages_of_an_allowed_origin_may_read_responses(client: httpx.AsyncClient) -> None:
    client.cookies.set(COOKIE, TOKEN)
    response = await client.post("/graphql", json={"query": VIEWER_QUERY}, headers={"origin": ALLOWED_ORIGIN})
    assert response.headers["access-control-allow-origin"] == ALLOWED_ORIGIN
    assert response.headers["access-control-allow-credentials"] == "true"
    assert "x-request-id" in response.headers["access-control-expose-headers"]
    assert "Origin" in response.headers["vary"]


@pytest.mark.parametrize("path", ["/graphql", "/graphql/schema", "/graphiql", "/healthz", "/nowhere", "/uploads/x"])
async def test_every_response_has_security_headers(client: httpx.AsyncClient, path: str) -> None:
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


async def test_sends_strict_transport_security_over_tls(tls_client: httpx.AsyncClient) -> None:
    assert (await tls_client.get("/healthz")).headers["strict-transport-security"] == "max-age=31536000"


async def test_uses_a_host_prefixed_secure_cookie_over_tls(tls_client: httpx.AsyncClient) -> None:
    response = await tls_client.post(
        "/graphql", json={"query": LOG_OUT}, headers={"cookie": f"{SECURE_COOKIE}={TOKEN}"}
    )
    assert response.headers["set-cookie"] == f"{SECURE_COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax; Secure"
    cookie_response = Response()
    HttpSessionCookie(cookie_response, secure=True).set_session(TOKEN, session())
    name, *parts = cookie_response.headers["set-cookie"].split("; ")
    assert name == f"{SECURE_COOKIE}={TOKEN}"
    assert {"Path=/", "HttpOnly", "SameSite=Lax", "Secure"} < set(parts)
    assert not any(part.startswith("Domain") for part in parts)


async def test_ignores_a_cookie_that_was_set_without_tls_over_tls(tls_client: httpx.AsyncClient) -> None:
    assert await viewer_id(tls_client, cookie=f"{COOKIE}={TOKEN}") is None
    assert await viewer_id(tls_client, cookie=f"{SECURE_COOKIE}={TOKEN}") == ADA
    assert await viewer_id(tls_client, cookie=f"{COOKIE}=planted; {SECURE_COOKIE}={TOKEN}") == ADA


async def test_scheme_reported_by_the_proxy_decides_which_cookie_counts(
    client: httpx.AsyncClient,
) -> None:
    assert await viewer_id(client, cookie=f"{COOKIE}={TOKEN}") == ADA
    assert await viewer_id(client, cookie=f"{SECURE_COOKIE}={TOKEN}") is None
    assert await viewer_id(client, cookie=f"{SECURE_COOKIE}={TOKEN}", **{"x-forwarded-proto": "https"}) == ADA
    assert await viewer_id(client, cookie=f"{COOKIE}={TOKEN}", **{"x-forwarded-proto": "https"}) is None


async def test_https_public_url_takes_precedence_over_the_proxy(
    temporal_address: str, services: FakeServices, tmp_path: Path
) -> None:
    address = "https://gateway.example.com"
    async with http_client(temporal_address, services, tmp_path, "http://inside", public_url=address) as client:
        response = await client.post(
            "/graphql", json={"query": LOG_OUT}, headers={"cookie": f"{SECURE_COOKIE}={TOKEN}"}
        )
        assert response.headers["set-cookie"].startswith(SECURE_COOKIE)
        assert "strict-transport-security" in response.headers


async def test_only_pages_of_allowed_origins_open_sockets(
    temporal_address: str, services: FakeServices, cache: Cache, tmp_path: Path
) -> None:
    configured = settings(temporal_address, data_dir=tmp_path, allowed_origins=(ALLOWED_ORIGIN,))
    protocols = [Subprotocol("graphql-transport-ws")]
    async with running_gateway(configured, services, cache=cache) as http_client:
        for origin in (None, ALLOWED_ORIGIN, http_client.http):
            async with connect(http_client.url, subprotocols=protocols, origin=Origin(origin) if origin else None):
                pass
        for origin in (OTHER_ORIGIN, "null", f"http://127.0.0.1:{http_client.port + 1}"):
            with pytest.raises(InvalidStatus) as refused:
                async with connect(http_client.url, subprotocols=protocols, origin=Origin(origin)):
                    pass
            assert refused.value.response.status_code == 403


@pytest.mark.parametrize("origins", [("*",), ("app.example.com",), ("https://app.example.com/path",), ("null",)])
def test_settings_refuse_an_invalid_allowed_origin(origins: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError, match="no origin"):
        settings("127.0.0.1:1", allowed_origins=origins)


def test_settings_normalize_allowed_origins() -> None:
    configured = settings("127.0.0.1:1", allowed_origins=("https://App.Example.com:443/", "http://[::1]:3000"))
    assert configured.allowed_origins == ("https://app.example.com", "http://[::1]:3000")
