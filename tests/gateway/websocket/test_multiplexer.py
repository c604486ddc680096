"""Subscribers of the same operation share one execution per state and each receive the result as if they were alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from temporalio.client import Client
from temporalio.service import RPCError

from contracts.callers import Caller
from contracts.errors import ServiceUnavailable, SessionEnded
from resolvers.following.observer import user_tag
from resolvers.tokens import token_hash
from tests.gateway.fakes import ADA, GRACE, TOKEN, FakeServices, session, settings
from tests.gateway.http.event_streams import MULTIPART, SSE, open_event_stream
from tests.gateway.live_gateway import FOLLOW, Gateway, Socket, authorization, running_gateway, wait_until
from tests.resolvers.scripted import Script, ScriptStarter, scripts

WITH_STARTER = "subscription ($id: ID!) { operation(id: $id) { status cursor startedBy { name } } }"


@pytest.fixture
async def gateway(temporal_address: str, services: FakeServices, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A running gateway."""
    async with running_gateway(settings(temporal_address, data_dir=tmp_path), services) as gateway:
        yield gateway


@pytest.fixture
async def script(temporal_client: Client) -> AsyncIterator[Script]:
    """A scripted operation of Ada."""
    async with scripts(temporal_client) as starter:
        script = await starter.start(user_id=ADA)
        yield script
        with suppress(RPCError):  # the operation has ended
            await script.handle.terminate()


@asynccontextmanager
async def subscribed_sockets(
    gateway: Gateway, count: int, query: str, **variables: object
) -> AsyncIterator[list[Socket]]:
    """Open sockets that have each received their first state."""
    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(gateway.open(authorization())) for _ in range(count)]
        for sock in sockets:
            await sock.subscribe(query, **variables)
            assert (await sock.receive())["type"] == "next"
        yield sockets


def operation_in(message: Any) -> Any:
    """Return the operation in the message."""
    return message["payload"]["data"]["operation"]


async def test_executes_each_state_after_the_first_once_for_all_subscribers(
    gateway: Gateway, services: FakeServices, script: Script
) -> None:
    async with subscribed_sockets(gateway, 10, WITH_STARTER, id=script.id) as sockets:
        await asyncio.sleep(0.3)
        before = len(services.requests_to("users/get_users"))
        await script.move()
        states = [operation_in(await sock.receive()) for sock in sockets]
        assert len({state["cursor"] for state in states}) == 1
        assert {state["startedBy"]["name"] for state in states} == {"Ada"}
        assert len(services.requests_to("users/get_users")) - before <= 2


async def test_each_subscriber_receives_each_state_once_and_the_end_under_its_own_id(
    gateway: Gateway, script: Script
) -> None:
    async with subscribed_sockets(gateway, 5, FOLLOW, id=script.id) as sockets:
        cursors: dict[int, list[str]] = {index: [] for index in range(5)}
        for _ in range(5):
            await script.move()
            for index, sock in enumerate(sockets):
                cursors[index].append(operation_in(await sock.receive())["cursor"])
        await script.end()
        for sock in sockets:
            last, complete = await sock.receive(), await sock.receive()
            assert operation_in(last)["status"] == "COMPLETED"
            assert complete == {"id": last["id"], "type": "complete"}
    assert all(len(set(each)) == 5 for each in cursors.values())
    assert len({tuple(each) for each in cursors.values()}) == 1


async def test_joining_and_leaving_subscribers_do_not_affect_the_others(gateway: Gateway, script: Script) -> None:
    async with subscribed_sockets(gateway, 3, FOLLOW, id=script.id) as (first, second, third):
        await second.connection.close()
        await script.move()
        moved = operation_in(await first.receive())
        assert operation_in(await third.receive()) == moved
        await first.connection.close()
        async with subscribed_sockets(gateway, 1, FOLLOW, id=script.id) as (late,):
            await script.move()
            assert operation_in(await late.receive()) == operation_in(await third.receive()) != moved


async def test_shared_subscription_ends_with_its_last_subscriber(gateway: Gateway, script: Script) -> None:
    async with subscribed_sockets(gateway, 4, FOLLOW, id=script.id):
        await wait_until(lambda: len(shared_subscription_tasks()) == 1)
    await wait_until(lambda: len(shared_subscription_tasks()) == 0)


async def test_single_subscriber_has_no_shared_subscription(gateway: Gateway, script: Script) -> None:
    for _ in range(2):
        async with subscribed_sockets(gateway, 3, FOLLOW, id=script.id):
            await wait_until(lambda: len(shared_subscription_tasks()) == 1)
        await wait_until(lambda: len(gateway.app.streams) == 0)
        await wait_until(lambda: len(shared_subscription_tasks()) == 0)
        async with subscribed_sockets(gateway, 1, FOLLOW, id=script.id) as (alone,):
            await script.move()
            await alone.receive()
            assert shared_subscription_tasks() == []
        await wait_until(lambda: len(gateway.app.streams) == 0)


def shared_subscription_tasks() -> list[asyncio.Task[Any]]:
    """Return the running tasks of shared subscriptions."""
    return [task for task in asyncio.all_tasks() if task.get_name() == "run a shared subscription"]


async def test_unsubscribed_stream_receives_no_further_state(gateway: Gateway, script: Script) -> None:
    async with (
        subscribed_sockets(gateway, 2, FOLLOW, id=script.id) as (first, _),
        gateway.open(authorization()) as sock,
    ):
        name = await sock.subscribe(FOLLOW, id=script.id)
        await sock.receive()
        await sock.send({"id": name, "type": "complete"})
        await asyncio.sleep(0.3)
        await script.move()
        await first.receive()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await sock.receive()


async def test_resumed_subscribers_share_and_receive_only_newer_states(gateway: Gateway, script: Script) -> None:
    async with subscribed_sockets(gateway, 1, FOLLOW, id=script.id) as (one,):
        await script.move()
        cursor = operation_in(await one.receive())["cursor"]
    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(gateway.open(authorization())) for _ in range(4)]
        for sock in sockets:
            await sock.subscribe(FOLLOW, id=script.id, after=cursor)
        await asyncio.sleep(0.5)
        cursors: list[str] = []
        for _ in range(3):
            await script.move()
            states = {operation_in(await sock.receive())["cursor"] for sock in sockets}
            assert len(states) == 1
            cursors.extend(states)
    assert len({cursor, *cursors}) == 4


@pytest.mark.parametrize("accept", [SSE, MULTIPART])
async def test_event_streams_and_sockets_share_executions(
    gateway: Gateway, services: FakeServices, script: Script, accept: str
) -> None:
    async with (
        subscribed_sockets(gateway, 2, WITH_STARTER, id=script.id) as sockets,
        httpx.AsyncClient() as client,
        open_event_stream(client, gateway, WITH_STARTER, accept=accept, id=script.id) as events,
    ):
        while (await anext(events)).kind != "next":
            pass
        await asyncio.sleep(0.3)
        before = len(services.requests_to("users/get_users"))
        await script.move()
        states = await anext(events)
        assert [operation_in(await sock.receive()) for sock in sockets] == [states.data["data"]["operation"]] * 2
        if accept == SSE:
            assert states.id == states.data["data"]["operation"]["cursor"]
        assert len(services.requests_to("users/get_users")) - before <= 2
        await script.end()
        assert (await anext(events)).data["data"]["operation"]["status"] == "COMPLETED"
        assert (await anext(events)).kind == "complete"


async def test_two_viewers_share_no_execution(
    gateway: Gateway, services: FakeServices, temporal_client: Client
) -> None:
    """Both administer Acme, but each may see different fields of the other."""
    sessions = {TOKEN: session(), "grace": session("ses_" + "b" * 32, user_id=GRACE)}
    default_handler = services.handlers["users/get_users"]

    def find(caller: Caller, body: dict[str, Any]) -> Any:
        for token, found in sessions.items():
            if body["token_hash"] == token_hash(token):
                return found
        raise SessionEnded()

    def only_for_ada(caller: Caller, body: dict[str, Any]) -> Any:
        return default_handler(caller, body) if caller.user_id == ADA else []

    services.handlers |= {"auth/get_current_session": find, "users/get_users": only_for_ada}
    async with scripts(temporal_client) as starter:
        script = await _start_in_acme(starter)
        async with AsyncExitStack() as stack:
            opened = [
                (token, await stack.enter_async_context(gateway.open(authorization(token)))) for token in sessions
            ]
            opened += [
                (token, await stack.enter_async_context(gateway.open(authorization(token)))) for token in sessions
            ]
            for _, sock in opened:
                await sock.subscribe(WITH_STARTER, id=script.id)
                await sock.receive()
            await script.move()
            for token, sock in opened:
                name = {"name": "Ada"} if token == TOKEN else None
                assert operation_in(await sock.receive())["startedBy"] == name
        await script.end()


async def test_all_subscribers_receive_the_error_of_an_unavailable_service(
    gateway: Gateway, services: FakeServices, script: Script
) -> None:
    async with subscribed_sockets(gateway, 4, WITH_STARTER, id=script.id) as sockets:

        def unavailable(caller: object, body: object) -> None:
            raise ServiceUnavailable(service="users")

        services.handlers["users/get_users"] = unavailable
        await gateway.app.connections.backend.dashboards.cache.invalidate(
            user_tag(ADA)
        )  # otherwise they would receive the cached user
        await script.move()
        for sock in sockets:
            message = await sock.receive()
            assert operation_in(message)["startedBy"] is None
            assert message["payload"]["errors"][0]["extensions"]["code"] == "UPSTREAM_UNAVAILABLE"


async def _start_in_acme(starter: ScriptStarter) -> Script:
    return await starter.start(user_id=ADA, tenant_id=session().tenant_id)
