"""The current role and membership decide about access, even if they change without a change notification."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, NamedTuple

import httpx
import pytest
from redis import Redis
from websockets.exceptions import ConnectionClosed

from tests.end_to_end.client import PASSWORD, Client, graphql_socket
from tests.end_to_end.files import create_upload, send_bytes, upload_file
from tests.end_to_end.test_contract_onboarding import onboard, onboarding_input
from tests.security.two_tenants import ExecuteStatement, database_of
from tests.stack import Stack

ACCESS = "{ viewer { tenantOverview { permissions } } }"
FEED = "subscription { operations { id } }"
ADMINISTER = "operations:administer"
EVENT_STREAM, MULTIPART = (
    "text/event-stream",
    'multipart/mixed;boundary="graphql";subscriptionSpec=1.0,application/json',
)


class Member(NamedTuple):
    """An administrator of Acme who sees another user's operation; ``execute`` changes the database directly."""

    client: Client
    user_id: str
    tenant_id: str
    operation_id: str
    execute: ExecuteStatement
    stack: Stack
    is_redis_up: bool

    async def demote(self) -> None:
        """Make the member a guest."""
        await self.execute(
            "UPDATE tenants_membership SET role = ? WHERE user_id = ? AND tenant_id = ?",
            *("guest", self.user_id, self.tenant_id),
        )

    async def remove(self) -> None:
        """Remove the membership."""
        await self.execute(
            "DELETE FROM tenants_membership WHERE user_id = ? AND tenant_id = ?", self.user_id, self.tenant_id
        )

    async def permissions(self) -> list[str] | None:
        """Return the permissions that the API shows; None without a session."""
        viewer = (await self.client.execute_unchecked(ACCESS))["data"]["viewer"]
        return None if viewer is None else list(viewer["tenantOverview"]["permissions"])

    async def sees_the_operation(self) -> bool:
        """Return whether the member can read the operation of another user."""
        response = await self.client.execute_unchecked(
            "query ($id: ID!) { operation(id: $id) { id } }", id=self.operation_id
        )
        return bool(response.get("data") and response["data"]["operation"])


@contextmanager
def paused_redis(stack: Stack) -> Iterator[None]:
    """Stop Redis from answering while the block runs."""
    with Redis.from_url(stack.environment["REDIS_URL"]) as redis:
        process_file = int(redis.info("server")["process_id"])
    os.kill(process_file, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process_file, signal.SIGCONT)


@pytest.fixture(params=["without Redis", "with Redis", "with Redis paused"])
def stack_kind(request: pytest.FixtureRequest) -> tuple[str, Stack]:
    """The kind of the stack and the stack."""
    is_dev = request.param == "without Redis"
    return request.param, request.getfixturevalue("dev_stack" if is_dev else "separate_stack")


@pytest.fixture
async def member(stack_kind: tuple[str, Stack]) -> AsyncIterator[Member]:
    """A new administrator of Acme, on each kind of stack."""
    kind, stack = stack_kind
    ada = Client(stack)
    await ada.log_in("ada@example.com")
    await ada.ensure_tenant("Acme")
    person = onboarding_input(role="admin", password=PASSWORD)
    onboarded = (await onboard(ada, person))["operation"]
    user_id = onboarded["result"]["user"]["id"]
    client = Client(stack)
    await client.log_in(person["email"])
    tenant_id = await ada.tenant_id("Acme")
    found = Member(client, user_id, tenant_id, onboarded["id"], database_of(stack), stack, kind == "with Redis")
    if kind != "with Redis paused":
        yield found
        return
    with paused_redis(stack):
        yield found


async def wait_for_other_permissions(member: Member, before: list[str] | None) -> None:
    """Wait until the permissions change: at most a second with Redis, immediately without Redis."""
    started_at = time.monotonic()
    while await member.permissions() == before:
        assert member.is_redis_up, "the next request still had the previous role"
        assert time.monotonic() - started_at < 1
        await asyncio.sleep(0.02)


async def test_next_requests_use_a_changed_role_or_removed_membership(member: Member) -> None:
    before = await member.permissions()
    assert before is not None
    assert ADMINISTER in before
    assert await member.sees_the_operation()
    await member.demote()
    await wait_for_other_permissions(member, before)
    current_permissions = await member.permissions()
    assert current_permissions is not None
    assert ADMINISTER not in current_permissions
    assert not await member.sees_the_operation()

    await member.remove()
    await wait_for_other_permissions(member, current_permissions)
    assert await member.permissions() is None


async def test_removed_member_cannot_read_later_files(member: Member) -> None:
    if member.stack.environment.get("REDIS_URL") and not member.is_redis_up:
        pytest.skip("no user can sign in to store a file while Redis is paused")
    await member.permissions()
    await member.remove()
    ada = Client(member.stack)
    await ada.log_in("ada@example.com")
    await ada.ensure_tenant("Acme")
    file = await upload_file(ada, b"for members only\n", accessLevel="TENANT")
    await asyncio.sleep(1)
    response = await member.client.execute_unchecked("query ($id: ID!) { node(id: $id) { id } }", id=file["id"])
    assert response["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"


@pytest.mark.parametrize("change", ["demote", "remove"])
async def test_signed_urls_work_only_within_the_current_role(member: Member, change: str) -> None:
    ada = Client(member.stack)
    if member.stack.environment.get("REDIS_URL") and not member.is_redis_up:
        pytest.skip("no user can sign in to store a file while Redis is paused")
    await ada.log_in("ada@example.com")
    await ada.ensure_tenant("Acme")
    tenant_file, private = [
        (await upload_file(ada, b"of another\n", accessLevel=level))["id"] for level in ("TENANT", "PRIVATE")
    ]
    urls = [await url_of(member.client, each) for each in (tenant_file, private)]
    target = await create_upload(member.client, b"late\n")
    assert [(await fetch(url)).status_code for url in urls] == [200, 200]

    await getattr(member, change)()
    started_at = time.monotonic()
    statuses = [(await fetch(url)).status_code for url in urls]
    sent = await send_bytes(target, b"late\n")
    assert time.monotonic() - started_at < 1
    assert statuses == ([200, 403] if change == "demote" else [403, 403])
    assert (sent.status_code, sent.json()["errors"][0]["extensions"]["code"]) == (403, "FORBIDDEN")
    assert sent.json()["errors"][0]["extensions"]["reason"] == "NOT_PERMITTED"


async def url_of(client: Client, file_id: str) -> str:
    """Return the download URL of the file."""
    shown = await client.execute("query ($id: ID!) { node(id: $id) { ... on File { downloadUrl } } }", id=file_id)
    return str(shown["node"]["downloadUrl"])


async def fetch(url: str) -> httpx.Response:
    """Download the URL."""
    async with httpx.AsyncClient(timeout=30, trust_env=False, verify=False) as http:
        return await http.get(url)


@pytest.mark.parametrize("change", ["demote", "remove"])
@pytest.mark.parametrize(
    "transport", ["websocket", EVENT_STREAM, MULTIPART], ids=["websocket", "event stream", "multipart"]
)
async def test_open_stream_ends_with_its_role_or_membership(member: Member, change: str, transport: str) -> None:
    opened = stream_over_socket(member) if transport == "websocket" else stream_over_http(member, transport)
    async with asyncio.timeout(30), opened as stream_end:
        started_at = time.monotonic()
        await getattr(member, change)()
        assert not stream_end.done()
        await stream_end
        assert time.monotonic() - started_at < (1 if member.is_redis_up else 5)


@asynccontextmanager
async def stream_over_socket(member: Member) -> AsyncIterator[asyncio.Task[None]]:
    """Subscribe on a websocket; yield a task that ends when the gateway closes the socket."""
    async with graphql_socket(member.stack.websocket, member.client.token) as socket:
        for id, query in (("1", FEED), ("2", ACCESS)):
            await socket.send(json.dumps({"type": "subscribe", "id": id, "payload": {"query": query}}))
        while json.loads(await socket.recv()) != {"type": "complete", "id": "2"}:
            pass

        async def end() -> None:
            with suppress(ConnectionClosed):
                async for _ in socket:
                    pass
            assert socket.close_code == 4401

        yield asyncio.ensure_future(end())


@asynccontextmanager
async def stream_over_http(member: Member, accept: str) -> AsyncIterator[asyncio.Task[None]]:
    """Subscribe over HTTP; yield a task that ends with the stream, which must end with an error."""
    headers = {"accept": accept, "authorization": f"Bearer {member.client.token}"}
    body: dict[str, Any] = {"query": FEED}
    async with (
        httpx.AsyncClient(timeout=30, trust_env=False) as http,
        http.stream("POST", member.stack.graphql, json=body, headers=headers) as response,
    ):
        assert response.status_code == 200

        async def end() -> None:
            body = "".join([text async for text in response.aiter_text()])
            assert "UNAUTHENTICATED" in body

        reading = asyncio.ensure_future(end())
        await asyncio.sleep(1)
        yield reading
