"""Without PUBLIC_URL the gateway accepts only loopback host names, which prevents DNS rebinding."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.routing import Route
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from gateway.app import create_app
from gateway.dependencies import Dependencies
from gateway.security.hosts import is_loopback_host
from gateway.settings import FeatureVisibility, Settings
from tests.gateway.fakes import ADA, FakeServices, settings
from tests.gateway.live_gateway import Gateway, running_gateway

REBOUND_HOSTS = [
    "evil.example",
    "evil.example:8080",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evil.localhost.example",
]
CODEC = {"codec_keys": "one:Y2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2M=", "codec_readers": (ADA,)}
SUBPROTOCOL = Subprotocol("graphql-transport-ws")


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8080",
        "localhost.",
        "app.localhost:80",
        "127.0.0.1",
        "127.0.0.1:8080",
        "127.8.9.10",
        "[::1]",
        "[::1]:8080",
        "[::ffff:127.0.0.1]:8080",
    ],
)
def test_recognizes_loopback_hosts(host: str) -> None:
    assert is_loopback_host(host)


@pytest.mark.parametrize(
    "host",
    [
        *REBOUND_HOSTS,
        "",
        ":8080",
        "localhost@evil.example",
        "evillocalhost",
        "localhost..",
        "10.0.0.1",
        "0.0.0.0:8080",
        "[::]",
        "[2001:db8::1]:8080",
        "2130706433",
        "127.0.0.1.",
        "gateway",
    ],
)
def test_other_hosts_are_not_loopback(host: str) -> None:
    assert not is_loopback_host(host)


def local_settings(temporal_address: str, folder: Path) -> Settings:
    """Return settings without PUBLIC_URL, with GraphiQL and the codec server."""
    return settings(temporal_address, data_dir=folder, graphiql=FeatureVisibility.ON, **CODEC)


@pytest.fixture
async def gateway(temporal_address: str, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A running gateway without PUBLIC_URL."""
    async with running_gateway(local_settings(temporal_address, tmp_path), FakeServices()) as gateway:
        yield gateway


async def test_every_route_refuses_a_rebound_host(gateway: Gateway) -> None:
    routes = (route for route in gateway.app.routes if isinstance(route, Route))
    paths = {re.sub(r"{\w+}", "x", route.path) for route in routes}
    assert paths > {"/graphql", "/graphiql", "/codec/decode", "/uploads/x", "/downloads/x", "/healthz"}
    async with httpx.AsyncClient(base_url=gateway.http, trust_env=False) as http:
        for path in (*paths, "/nowhere"):
            for method in ("GET", "POST", "PUT", "OPTIONS"):
                page_headers = {"host": REBOUND_HOSTS[0], "origin": f"http://{REBOUND_HOSTS[0]}"}
                response = await http.request(method, path, headers=page_headers)
                assert response.status_code == 421, (method, path)
                (error,) = response.json()["errors"]
                assert "PUBLIC_URL" in error["message"]
                assert error["extensions"] == {
                    "code": "FORBIDDEN",
                    "reason": "NOT_PERMITTED",
                    "requestId": response.headers["x-request-id"],
                }
            assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize("host", REBOUND_HOSTS)
async def test_refuses_sockets_for_a_rebound_host(gateway: Gateway, host: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(
            f"ws://{host}/graphql", subprotocols=[SUBPROTOCOL], proxy=None, host="127.0.0.1", port=gateway.port
        ):
            pass
    assert refused.value.response.status_code == 421


async def test_accepts_loopback_hosts_on_every_transport(gateway: Gateway) -> None:
    async with httpx.AsyncClient(base_url=gateway.http, trust_env=False) as http:
        for host in ("localhost", f"127.0.0.1:{gateway.port}", f"[::1]:{gateway.port}"):
            response = await http.post("/graphql", json={"query": "{ __typename }"}, headers={"host": host})
            assert response.json() == {"data": {"__typename": "Query"}}
    async with gateway.open():
        pass


async def test_accepts_other_hosts_with_a_public_url(temporal_address: str, tmp_path: Path) -> None:
    configured = settings(temporal_address, data_dir=tmp_path, public_url="https://adx.example.com")
    app = create_app(configured, Dependencies(services=FakeServices().transport))
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://adx.example.com") as client,
    ):
        assert (await client.get("/healthz")).status_code == 200
