"""Address, scheme and host of the client behind reverse proxies: the gateway uses headers of trusted proxies only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import HTTPConnection
from structlog.testing import capture_logs

from gateway.app import create_app
from gateway.dependencies import Dependencies
from gateway.security.client_network import client_network
from gateway.security.proxy_headers import ProxyHeadersMiddleware, base_url
from infrastructure.settings_validation import Environment
from tests.gateway.fakes import FakeServices, settings

PROXIES = ("10.0.0.0/8", "fd00::/64", "::ffff:192.168.7.0/120")


async def connection_behind(peer: str, *headers: tuple[str, str], public_url: str | None = None) -> HTTPConnection:
    """Return the connection as the application sees it behind the middleware."""
    connections: list[HTTPConnection] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        connections.append(HTTPConnection(scope))

    trusted = settings("127.0.0.1:1", trusted_proxies=PROXIES).trusted_proxies
    raw = [(name.encode(), value.encode()) for name, value in (("host", "inside:8080"), *headers)]
    scope = {"type": "http", "scheme": "http", "path": "/", "query_string": b"", "client": (peer, 1), "headers": raw}
    await ProxyHeadersMiddleware(app, trusted=trusted, public_url=public_url)(scope, None, None)  # type: ignore[arg-type]
    return connections[0]


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        ("203.0.113.9", ["10.0.0.1"], "203.0.113.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["10.9.9.9, 6.6.6.6, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6", "198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1", "10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, unknown, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["198.51.100.1,"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1:99999999"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1:x"], "10.0.0.1"),
        ("10.0.0.1", ['"198.51.100.1"'], "198.51.100.1"),
        ("10.0.0.1", ["2001:db8:1:2:3:4:5:6"], "2001:db8:1:2::/64"),
        ("10.0.0.1", ["[2001:db8:1:2:3:4:5:6]"], "2001:db8:1:2::/64"),
        ("10.0.0.1", ['"[2001:db8:1:2:3:4:5:6]:443"'], "2001:db8:1:2::/64"),
        ("10.0.0.1", ["[2001:db8:1:2:3:4:5:6"], "10.0.0.1"),
        ("10.0.0.1", ["[198.51.100.1]"], "10.0.0.1"),
        ("10.0.0.1", ["2001:db8:1:2::%eth0"], "2001:db8:1:2::/64"),
        ("10.0.0.1", ["::ffff:198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1, ::ffff:10.0.0.2"], "198.51.100.1"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("::FFFF:0a00:0001", ["198.51.100.1"], "198.51.100.1"),
        ("::ffff:203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        ("::ffff:192.168.7.3", ["198.51.100.1"], "198.51.100.1"),
        ("192.168.7.3", ["198.51.100.1"], "198.51.100.1"),
        ("fd00::7", ["198.51.100.1"], "198.51.100.1"),
        ("fd00:0:0:1::7", ["198.51.100.1"], "fd00:0:0:1::/64"),
    ],
)
async def test_identifies_a_client_by_the_address_from_trusted_proxies(
    peer: str, forwarded: list[str], expected: str
) -> None:
    assert client_network(await connection_behind(peer, *(("x-forwarded-for", each) for each in forwarded))) == expected


@pytest.mark.parametrize(
    ("peer", "headers", "expected"),
    [
        ("10.0.0.1", [("x-forwarded-proto", "https")], "https://inside:8080"),
        ("10.0.0.1", [("x-forwarded-proto", "HTTPS")], "https://inside:8080"),
        ("10.0.0.1", [("x-forwarded-proto", "https"), ("x-forwarded-proto", "http")], "http://inside:8080"),
        ("10.0.0.1", [("x-forwarded-proto", "http, https")], "https://inside:8080"),
        ("10.0.0.1", [("x-forwarded-host", "adx.example.com")], "http://adx.example.com"),
        ("10.0.0.1", [("x-forwarded-host", "evil.example, adx.example.com:8443")], "http://adx.example.com:8443"),
        ("10.0.0.1", [("x-forwarded-host", "evil.example/path")], "http://inside:8080"),
        ("10.0.0.1", [("x-forwarded-host", "a@b")], "http://inside:8080"),
        ("10.0.0.1", [("x-forwarded-host", "")], "http://inside:8080"),
        ("203.0.113.9", [("x-forwarded-proto", "https")], "http://inside:8080"),
        ("203.0.113.9", [("x-forwarded-host", "adx.example.com")], "http://inside:8080"),
        ("::ffff:203.0.113.9", [("x-forwarded-host", "adx.example.com")], "http://inside:8080"),
    ],
)
async def test_uses_scheme_and_host_of_trusted_proxies_only(
    peer: str, headers: list[tuple[str, str]], expected: str
) -> None:
    assert base_url(await connection_behind(peer, *headers)) == expected


async def test_every_request_counts_as_tls_with_an_https_public_url() -> None:
    assert (
        base_url(await connection_behind("203.0.113.9", public_url="https://adx.example.com")) == "https://inside:8080"
    )


@asynccontextmanager
async def http_client(
    temporal_address: str, folder: Path, peer: str, **others: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """Yield an HTTP client with this peer address of a gateway in this process."""
    app = create_app(
        settings(temporal_address, data_dir=folder).model_copy(update=others),
        Dependencies(services=FakeServices().transport),
    )
    transport = httpx.ASGITransport(app, client=(peer, 1))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        yield client


@pytest.mark.parametrize(
    ("environment", "proxies", "peer", "logged"),
    [
        (Environment.PRODUCTION, (), "10.0.0.1", ["10.0.0.1"]),
        (Environment.PRODUCTION, (), "93.184.216.34", [None]),
        (Environment.PRODUCTION, ("10.0.0.0/8",), "10.0.0.1", []),
        (Environment.DEVELOPMENT, (), "10.0.0.1", []),
    ],
)
async def test_warns_once_in_production_about_proxy_headers_of_an_untrusted_peer(
    temporal_address: str,
    tmp_path: Path,
    environment: Environment,
    proxies: tuple[str, ...],
    peer: str,
    logged: list[str | None],
) -> None:
    trusted = settings("127.0.0.1:1", trusted_proxies=proxies).trusted_proxies
    async with http_client(
        temporal_address, tmp_path, peer, environment=environment, trusted_proxies=trusted
    ) as client:
        with capture_logs() as lines:
            await client.get("/healthz")
            for number in range(3):
                await client.get("/healthz", headers={"x-forwarded-for": f"198.51.100.{number}"})
    warnings = [line for line in lines if line["event"] == "proxy_headers_ignored"]
    assert [line["peer"] for line in warnings] == logged
    assert all("TRUSTED_PROXIES" in line["reason"] for line in warnings)
    assert "198.51.100" not in str(lines)
