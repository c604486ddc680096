"""Subscriptions over plain HTTP: server-sent events as graphql-sse has them, multipart bodies as Apollo Client does."""

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
from tests.gateway.fakes import ADA, TOKEN, Services, settings
from tests.gateway.http.event_streams import MULTIPART, SSE, Event, following
from tests.gateway.live_gateway import FOLLOW, WHO, Gateway, running_gateway, until
from tests.resolvers.scripted import ScriptStarter, scripts

BARE = "subscription ($id: ID!) { operation(id: $id) { status } }"
"""It does not ask for the cursor."""
URQL = (
    "application/graphql-response+json, application/graphql+json, application/json, text/event-stream, multipart/mixed"
)


@pytest.fixture
async def gateway(temporal_address: str, services: Services, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running_gateway(
        settings(temporal_address, data_dir=tmp_path, ping_interval_seconds=1), services
    ) as gateway:
        yield gateway


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {TOKEN}"}) as client:
        yield client


@pytest.fixture
async def starter(temporal_client: Client) -> AsyncIterator[ScriptStarter]:
    async with scripts(temporal_client) as starter:
        yield starter


async def told(events: AsyncIterator[Event]) -> Event:
    """The next event but heartbeats."""
    async with asyncio.timeout(30):
        async for event in events:
            if event.kind != "heartbeat":
                return event
    raise AssertionError("The stream has ended.")


def status(event: Event) -> str:
    return str(event.data["data"]["operation"]["status"])


@pytest.mark.parametrize(("accept", "method"), [(SSE, "POST"), (SSE, "GET"), (MULTIPART, "POST"), (URQL, "POST")])
async def test_a_follower_is_told_each_state_and_the_end(
    gateway: Gateway, client: httpx.AsyncClient, starter: ScriptStarter, accept: str, method: str
) -> None:
    script = await starter.start(user_id=ADA)
    async with following(client, gateway, FOLLOW, accept=accept, method=method, id=script.id) as events:
        assert status(await told(events)) == "RUNNING"
        await script.move()
        assert status(await told(events)) == "RUNNING"
        await script.end()
        assert status(await told(events)) == "COMPLETED"
        assert (await told(events)).kind == "complete"
        assert [event async for event in events] == []


async def test_what_a_browser_sends_by_itself_opens_a_stream(gateway: Gateway, starter: ScriptStarter) -> None:
    """EventSource sends cookies and no header of ours."""
    script = await starter.start(user_id=ADA)
    async with (
        httpx.AsyncClient(cookies={COOKIE: TOKEN}) as browser,
        following(browser, gateway, FOLLOW, method="GET", token=None, id=script.id) as events,
    ):
        assert status(await told(events)) == "RUNNING"
    await script.end()


async def test_each_event_bears_the_cursor_with_which_the_stream_resumes(
    gateway: Gateway, client: httpx.AsyncClient, starter: ScriptStarter
) -> None:
    script = await starter.start(user_id=ADA)
    async with following(client, gateway, FOLLOW, id=script.id) as events:
        first = await told(events)
        assert first.id == first.data["data"]["operation"]["cursor"]
    async with following(client, gateway, BARE, id=script.id) as events:
        assert (await told(events)).id == first.id, "whether it is asked for or not"
    resume = {"last-event-id": first.id or ""}
    async with following(client, gateway, BARE, headers=resume, id=script.id) as events:
        await asyncio.sleep(0.3)
        await script.end()
        last = await told(events)
        assert status(last) == "COMPLETED", "what was told is not told again"
    resume = {"last-event-id": last.id or ""}
    async with following(client, gateway, FOLLOW, headers=resume, id=script.id, after=first.id) as events:
        assert (await told(events)).kind == "complete"


async def test_a_feed_of_many_operations_bears_no_ids(
    gateway: Gateway, client: httpx.AsyncClient, starter: ScriptStarter
) -> None:
    started = 'mutation { switchTenant(input: { tenantId: "x", waitSeconds: 0 }) { operation { id } } }'
    async with following(client, gateway, "subscription { operations { id } }") as events:
        answer = (await client.post(f"{gateway.http}/graphql", json={"query": started})).json()
        assert "errors" not in answer
        event = await told(events)
        assert event.data["data"]["operations"]["id"] == answer["data"]["switchTenant"]["operation"]["id"]
        assert event.id is None


@pytest.mark.parametrize("accept", [SSE, MULTIPART])
async def test_a_quiet_stream_gives_signs_of_life(
    gateway: Gateway, client: httpx.AsyncClient, starter: ScriptStarter, accept: str
) -> None:
    script = await starter.start(user_id=ADA)
    async with following(client, gateway, FOLLOW, accept=accept, id=script.id) as events:
        await told(events)
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
async def test_what_is_wrong_is_told_in_the_stream(
    gateway: Gateway, client: httpx.AsyncClient, method: str, query: str, variables: dict[str, Any], code: str
) -> None:
    async with following(client, gateway, query, method=method, **variables) as events:
        assert (await told(events)).codes == [code]
        assert (await told(events)).kind == "complete"


async def test_a_forged_event_id_is_told_to_be_one(
    gateway: Gateway, client: httpx.AsyncClient, starter: ScriptStarter
) -> None:
    script = await starter.start(user_id=ADA)
    async with following(client, gateway, FOLLOW, headers={"last-event-id": "forged"}, id=script.id) as events:
        assert (await told(events)).codes == ["BAD_USER_INPUT"]
    await script.end()


async def test_nobody_follows_what_is_not_theirs(gateway: Gateway, starter: ScriptStarter) -> None:
    script = await starter.start(user_id=ADA)
    async with (
        httpx.AsyncClient() as stranger,
        following(stranger, gateway, FOLLOW, token=None, id=script.id) as events,
    ):
        assert (await told(events)).codes == ["UNAUTHENTICATED"]
    await script.end()


@pytest.mark.parametrize("accept", [SSE, MULTIPART])
async def test_a_client_that_goes_takes_its_subscription_along(
    gateway: Gateway, client: httpx.AsyncClient, starter: ScriptStarter, accept: str
) -> None:
    script = await starter.start(user_id=ADA)
    async with following(client, gateway, FOLLOW, accept=accept, id=script.id) as events:
        await told(events)
        assert len(gateway.app.streams) == 1
    await until(lambda: len(gateway.app.streams) == 0, 3)
    await script.end()


# ------------------------------------------------------------------------------------------------- what is no stream


async def test_a_query_by_one_who_accepts_nothing_else_comes_as_one_event(
    gateway: Gateway, client: httpx.AsyncClient
) -> None:
    async with following(client, gateway, WHO) as events:
        assert (await told(events)).data == {"data": {"viewer": {"user": {"id": ADA}}}}
        assert (await told(events)).kind == "complete"


async def test_a_login_by_one_who_accepts_nothing_else_sets_its_cookie(gateway: Gateway) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.post(
            f"{gateway.http}/graphql",
            json={"query": "mutation { logout { ok } }"},
            headers={"accept": SSE, "authorization": f"Bearer {TOKEN}"},
        )
    assert answer.headers["content-type"].startswith(SSE)
    assert COOKIE in answer.headers["set-cookie"]


@pytest.mark.parametrize(
    ("accept", "kind"), [(URQL, "application/graphql-response+json; charset=utf-8"), (MULTIPART, "application/json")]
)
async def test_a_query_by_one_who_accepts_json_too_comes_as_json(
    gateway: Gateway, client: httpx.AsyncClient, accept: str, kind: str
) -> None:
    answer = await client.post(f"{gateway.http}/graphql", json={"query": WHO}, headers={"accept": accept})
    assert answer.headers["content-type"] == kind
    assert answer.json()["data"]["viewer"]["user"]["id"] == ADA


@pytest.mark.parametrize("accept", [SSE, "application/json", "*/*", URQL])
async def test_nothing_is_changed_by_get(
    gateway: Gateway, client: httpx.AsyncClient, services: Services, accept: str
) -> None:
    asked = {"query": "mutation { logout { ok } }"}
    answer = await client.get(f"{gateway.http}/graphql", params=asked, headers={"accept": accept})
    assert answer.status_code == 405
    assert answer.json()["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"
    assert services.calls == []


@pytest.mark.parametrize("accept", ["application/json", "*/*", "multipart/mixed;deferSpec=20220824,application/json"])
async def test_a_subscription_by_one_who_accepts_no_stream_is_refused_in_words(
    gateway: Gateway, client: httpx.AsyncClient, accept: str
) -> None:
    asked = {"query": FOLLOW, "variables": {"id": "tenant-switch-" + "f" * 32}}
    answer = await client.post(f"{gateway.http}/graphql", json=asked, headers={"accept": accept})
    assert answer.status_code == 400
    assert "text/event-stream" in answer.json()["errors"][0]["message"]


async def test_a_form_of_another_site_opens_no_stream(gateway: Gateway, client: httpx.AsyncClient) -> None:
    asked = json.dumps({"query": "subscription { operations { id } }"})
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        headers = {"accept": SSE, "content-type": kind}
        answer = await client.post(f"{gateway.http}/graphql", content=asked, headers=headers)
        assert answer.status_code in (400, 415)


# ------------------------------------------------------------------------------------------------- HTTP/2


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """A certificate for 127.0.0.1 that is its own authority."""
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
    temporal_address: str, services: Services, tmp_path: Path, starter: ScriptStarter, tls: Tls, is_encrypted: bool
) -> None:
    script = await starter.start(user_id=ADA)
    known = settings(temporal_address, data_dir=tmp_path)
    verify = ssl.create_default_context(cafile=str(tls.certificate))
    limits = httpx.Limits(max_connections=1)
    async with (
        running_gateway(known, services, tls=tls if is_encrypted else None) as gateway,
        httpx.AsyncClient(http1=is_encrypted, http2=True, limits=limits, verify=verify) as client,
    ):
        url = f"{'https' if is_encrypted else 'http'}://127.0.0.1:{gateway.port}/graphql"
        begun = asyncio.Semaphore(0)

        async def follow() -> list[str]:
            statuses = []
            async with following(client, gateway, FOLLOW, url=url, version="HTTP/2", id=script.id) as events:
                async for event in events:
                    if event.kind == "next":
                        statuses.append(status(event))
                        begun.release()
            return statuses

        followers = [asyncio.create_task(follow()) for _ in range(90)]  # httpx opens 100 at most
        for _ in followers:
            async with asyncio.timeout(20):
                await begun.acquire()
        await script.end()
        async with asyncio.timeout(20):
            assert {tuple(each) for each in await asyncio.gather(*followers)} == {("RUNNING", "COMPLETED")}


async def test_who_says_nothing_where_tls_is_spoken_is_cut_off(
    temporal_address: str, services: Services, tmp_path: Path, tls: Tls
) -> None:
    known = settings(temporal_address, data_dir=tmp_path)
    async with running_gateway(known, services, tls=tls, write_timeout_seconds=0.3) as gateway, asyncio.timeout(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        with suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
