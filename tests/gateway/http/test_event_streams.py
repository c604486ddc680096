"""Subscriptions over plain HTTP: server-sent events for graphql-sse, and multipart bodies for Apollo Client."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from temporalio.client import Client

from contracts.base import utc_now
from gateway.server.main import Tls
from gateway.sessions.cookies import COOKIE
from tests.gateway.fakes import ADA, TOKEN, FakeServices, settings
from tests.gateway.http.event_streams import MULTIPART, SSE, Event, open_event_stream
from tests.gateway.live_gateway import FOLLOW, VIEWER_QUERY, Gateway, running_gateway, wait_until
from tests.resolvers.scripted import ScriptStarter, scripts

WITHOUT_CURSOR = "subscription ($id: ID!) { operation(id: $id) { status } }"
"""A subscription without the cursor in its selection."""
URQL = (
    "application/graphql-response+json, application/graphql+json, application/json, text/event-stream, multipart/mixed"
)


@pytest.fixture
async def gateway(temporal_address: str, services: FakeServices, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A running gateway that sends a heartbeat every second."""
    async with running_gateway(
        settings(temporal_address, data_dir=tmp_path, ping_interval_seconds=1), services
    ) as gateway:
        yield gateway


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client with Ada's session."""
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {TOKEN}"}) as client:
        yield client


@pytest.fixture
async def starter(temporal_client: Client) -> AsyncIterator[ScriptStarter]:
    """Starts scripted operations."""
    async with scripts(temporal_client) as starter:
        yield starter


async def next_event(events: AsyncIterator[Event]) -> Event:
    """Return the next event that is not a heartbeat."""
    async with asyncio.timeout(30):
        async for event in events:
            if event.kind != "heartbeat":
                return event
    raise AssertionError("The stream has ended.")


def status(event: Event) -> str:
    """Return the status of the operation in the event."""
    return str(event.data["data"]["operation"]["status"])


@pytest.mark.parametrize(("accept", "method"), [(SSE, "POST"), (SSE, "GET"), (MULTIPART, "POST"), (URQL, "POST")])
async def test_subscriber_receives_each_state_and_the_end(
    gateway: Gateway, client: httpx.AsyncClient, starter: ScriptStarter, accept: str, method: str
) -> None:
    script = await starter.start(user_id=ADA)
    async with open_event_stream(client, gateway, FOLLOW, accept=accept, method=method, id=script.id) as events:
        assert status(await next_event(events)) == "RUNNING"
        await script.move()
        assert status(await next_event(events)) == "RUNNING"
        await script.end()
        assert status(await next_event(events)) == "COMPLETED"
        assert (await next_event(events)).kind == "complete"
        assert [event async for event in events] == []


async def test_event_source_of_a_browser_opens_a_stream(gateway: Gateway, starter: ScriptStarter) -> None:
    """EventSource sends cookies but no custom headers."""
    script = await starter.start(user_id=ADA)
    async with (
        httpx.AsyncClient(cookies={COOKIE: TOKEN}) as browser,
        open_event_stream(browser, gateway, FOLLOW, method="GET", token=None, id=script.id) as events,
    ):
        assert status(await next_event(events)) == "RUNNING"
    await script.end()


async def test_stream_resumes_with_the_cursor_in_the_id_of_an_event(
    gateway: Gateway, client: httpx.AsyncClient, starter: ScriptStarter
) -> None:
    script = await starter.start(user_id=ADA)
    async with open_event_stream(client, gateway, FOLLOW, id=script.id) as events:
        first = await next_event(events)
        assert first.id == first.data["data"]["operation"]["cursor"]
    async with open_event_stream(client, gateway, WITHOUT_CURSOR, id=script.id) as events:
        assert (await next_event(events)).id == first.id, "whether the cursor is selected or not"
    resume = {"last-event-id": first.id or ""}
    async with open_event_stream(client, gateway, WITHOUT_CURSOR, headers=resume, id=script.id) as events:
        await asyncio.sleep(0.3)
        await script.end()
        last = await next_event(events)
        assert status(last) == "COMPLETED", "a state that was sent before is not sent again"
    resume = {"last-event-id": last.id or ""}
    async with open_event_stream(client, gateway, FOLLOW, headers=resume, id=script.id, after=first.id) as events:
        assert (await next_event(events)).kind == "complete"


async def test_events_of_a_feed_have_no_ids(
    gateway: Gateway, client: httpx.AsyncClient, starter: ScriptStarter
) -> None:
    started = 'mutation { switchTenant(input: { tenantId: "x", waitSeconds: 0 }) { operation { id } } }'
    async with open_event_stream(client, gateway, "subscription { operations { id } }") as events:
        response = (await client.post(f"{gateway.http}/graphql", json={"query": started})).json()
        assert "errors" not in response
        event = await next_event(events)
        assert event.data["data"]["operations"]["id"] == response["data"]["switchTenant"]["operation"]["id"]
        assert event.id is None


@pytest.mark.parametrize("accept", [SSE, MULTIPART])
async def test_idle_stream_sends_heartbeats(
    gateway: Gateway, client: httpx.AsyncClient, starter: ScriptStarter, accept: str
) -> None:
    script = await starter.start(user_id=ADA)
    async with open_event_stream(client, gateway, FOLLOW, accept=accept, id=script.id) as events:
        await next_event(events)
        async with asyncio.timeout(4):
            assert [(await anext(events)).kind for _ in range(2)] == ["heartbeat", "heartbeat"]
    await script.end()


@pytest.mark.parametrize(
    ("query", "variables", "code"),
    [
        ("subscription {", {}, "BAD_USER_INPUT"),
        ("subscription { nope }", {}, "BAD_USER_INPUT"),
        ("", {}, "BAD_USER_INPUT"),
        (FOLLOW, {"id": "tenant-switch-" + "f" * 32, "after": "forged"}, "BAD_USER_INPUT"),
        (FOLLOW, {"id": "tenant-switch-" + "f" * 32}, "NOT_FOUND"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_errors_in_a_request_are_sent_in_the_stream(
    gateway: Gateway, client: httpx.AsyncClient, method: str, query: str, variables: dict[str, Any], code: str
) -> None:
    async with open_event_stream(client, gateway, query, method=method, **variables) as events:
        assert (await next_event(events)).codes == [code]
        assert (await next_event(events)).kind == "complete"


async def test_refuses_a_forged_event_id(gateway: Gateway, client: httpx.AsyncClient, starter: ScriptStarter) -> None:
    script = await starter.start(user_id=ADA)
    async with open_event_stream(client, gateway, FOLLOW, headers={"last-event-id": "forged"}, id=script.id) as events:
        assert (await next_event(events)).codes == ["BAD_USER_INPUT"]
    await script.end()


async def test_anonymous_client_cannot_follow_an_operation(gateway: Gateway, starter: ScriptStarter) -> None:
    script = await starter.start(user_id=ADA)
    async with (
        httpx.AsyncClient() as stranger,
        open_event_stream(stranger, gateway, FOLLOW, token=None, id=script.id) as events,
    ):
        assert (await next_event(events)).codes == ["UNAUTHENTICATED"]
    await script.end()


@pytest.mark.parametrize("accept", [SSE, MULTIPART])
async def test_disconnected_client_ends_its_subscription(
    gateway: Gateway, client: httpx.AsyncClient, starter: ScriptStarter, accept: str
) -> None:
    script = await starter.start(user_id=ADA)
    async with open_event_stream(client, gateway, FOLLOW, accept=accept, id=script.id) as events:
        await next_event(events)
        assert len(gateway.app.streams) == 1
    await wait_until(lambda: len(gateway.app.streams) == 0, 3)
    await script.end()


# ---------------------------------------------------------------------------------------- responses without a stream


async def test_query_of_a_client_that_accepts_only_event_streams_is_one_event(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    async with open_event_stream(client, gateway, VIEWER_QUERY) as events:
        assert (await next_event(events)).data == {"data": {"viewer": {"user": {"id": ADA}}}}
        assert (await next_event(events)).kind == "complete"


async def test_mutation_of_a_client_that_accepts_only_event_streams_sets_cookies(gateway: Gateway) -> None:
    async with httpx.AsyncClient() as client:
        response = await client.post(
            f"{gateway.http}/graphql",
            json={"query": "mutation { logout { ok } }"},
            headers={"accept": SSE, "authorization": f"Bearer {TOKEN}"},
        )
    assert response.headers["content-type"].startswith(SSE)
    assert COOKIE in response.headers["set-cookie"]


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [(URQL, "application/graphql-response+json; charset=utf-8"), (MULTIPART, "application/json")],
)
async def test_query_of_a_client_that_also_accepts_json_returns_json(
    gateway: Gateway, client: httpx.AsyncClient, accept: str, media_type: str
) -> None:
    response = await client.post(f"{gateway.http}/graphql", json={"query": VIEWER_QUERY}, headers={"accept": accept})
    assert response.headers["content-type"] == media_type
    assert response.json()["data"]["viewer"]["user"]["id"] == ADA


@pytest.mark.parametrize("accept", [SSE, "application/json", "*/*", URQL])
async def test_refuses_mutations_by_get(
    gateway: Gateway, client: httpx.AsyncClient, services: FakeServices, accept: str
) -> None:
    body = {"query": "mutation { logout { ok } }"}
    response = await client.get(f"{gateway.http}/graphql", params=body, headers={"accept": accept})
    assert response.status_code == 405
    assert response.json()["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"
    assert services.calls == []


@pytest.mark.parametrize("accept", ["application/json", "*/*", "multipart/mixed;deferSpec=20220824,application/json"])
async def test_refuses_a_subscription_of_a_client_that_accepts_no_stream(
    gateway: Gateway, client: httpx.AsyncClient, accept: str
) -> None:
    body = {"query": FOLLOW, "variables": {"id": "tenant-switch-" + "f" * 32}}
    response = await client.post(f"{gateway.http}/graphql", json=body, headers={"accept": accept})
    assert response.status_code == 400
    assert "text/event-stream" in response.json()["errors"][0]["message"]


async def test_forms_cannot_open_a_stream(gateway: Gateway, client: httpx.AsyncClient) -> None:
    body = json.dumps({"query": "subscription { operations { id } }"})
    for media_type in ("text/plain", "application/x-www-form-urlencoded"):
        headers = {"accept": SSE, "content-type": media_type}
        response = await client.post(f"{gateway.http}/graphql", content=body, headers=headers)
        assert response.status_code in (400, 415)


# ------------------------------------------------------------------------------------------------- HTTP/2


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """A self-signed certificate for 127.0.0.1."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(utc_now() - timedelta(hours=1))
        .not_valid_after(utc_now() + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    files = Tls(folder / "cert.pem", folder / "key.pem")
    files.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


@pytest.mark.parametrize("is_encrypted", [False, True])
async def test_one_http_2_connection_carries_many_streams(
    temporal_address: str, services: FakeServices, tmp_path: Path, starter: ScriptStarter, tls: Tls, is_encrypted: bool
) -> None:
    script = await starter.start(user_id=ADA)
    configured = settings(temporal_address, data_dir=tmp_path)
    verify = ssl.create_default_context(cafile=str(tls.certificate))
    limits = httpx.Limits(max_connections=1)
    async with (
        running_gateway(configured, services, tls=tls if is_encrypted else None) as gateway,
        httpx.AsyncClient(http1=is_encrypted, http2=True, limits=limits, verify=verify) as client,
    ):
        url = f"{'https' if is_encrypted else 'http'}://127.0.0.1:{gateway.port}/graphql"
        begun = asyncio.Semaphore(0)

        async def follow() -> list[str]:
            statuses = []
            async with open_event_stream(client, gateway, FOLLOW, url=url, version="HTTP/2", id=script.id) as events:
                async for event in events:
                    if event.kind == "next":
                        statuses.append(status(event))
                        begun.release()
            return statuses

        followers = [asyncio.create_task(follow()) for _ in range(90)]  # httpx opens at most 100 streams
        for _ in followers:
            async with asyncio.timeout(20):
                await begun.acquire()
        await script.end()
        async with asyncio.timeout(20):
            assert {tuple(each) for each in await asyncio.gather(*followers)} == {("RUNNING", "COMPLETED")}


async def test_disconnects_a_client_that_does_not_start_the_tls_handshake(
    temporal_address: str, services: FakeServices, tmp_path: Path, tls: Tls
) -> None:
    configured = settings(temporal_address, data_dir=tmp_path)
    async with running_gateway(configured, services, tls=tls, write_timeout_seconds=0.3) as gateway, asyncio.timeout(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        with suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
