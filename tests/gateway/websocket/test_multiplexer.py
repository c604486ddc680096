"""Many sockets that ask the same of one operation: executed once a state, told to each as if it were alone."""

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
from tests.gateway.fakes import ADA, GRACE, TOKEN, Services, session, settings
from tests.gateway.http.event_streams import MULTIPART, SSE, following
from tests.gateway.live_gateway import FOLLOW, Gateway, Socket, introduction, running_gateway, until
from tests.resolvers.scripted import Script, ScriptStarter, scripts

WITH_STARTER = "subscription ($id: ID!) { operation(id: $id) { status cursor startedBy { name } } }"


@pytest.fixture
async def gateway(temporal_address: str, services: Services, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running_gateway(settings(temporal_address, data_dir=tmp_path), services) as gateway:
        yield gateway


@pytest.fixture
async def script(temporal_client: Client) -> AsyncIterator[Script]:
    async with scripts(temporal_client) as starter:
        script = await starter.start(user_id=ADA)
        yield script
        with suppress(RPCError):  # it has ended
            await script.handle.terminate()


@asynccontextmanager
async def crowd(gateway: Gateway, count: int, query: str, **variables: object) -> AsyncIterator[list[Socket]]:
    """Sockets that have each been told a first state."""
    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(gateway.open(introduction())) for _ in range(count)]
        for sock in sockets:
            await sock.subscribe(query, **variables)
            assert (await sock.next())["type"] == "next"
        yield sockets


def shown(message: Any) -> Any:
    return message["payload"]["data"]["operation"]


async def test_a_state_is_executed_once_for_all_but_the_first(
    gateway: Gateway, services: Services, script: Script
) -> None:
    async with crowd(gateway, 10, WITH_STARTER, id=script.id) as sockets:
        await asyncio.sleep(0.3)
        before = len(services.asked("users/get_users"))
        await script.move()
        told = [shown(await sock.next()) for sock in sockets]
        assert len({state["cursor"] for state in told}) == 1
        assert {state["startedBy"]["name"] for state in told} == {"Ada"}
        assert len(services.asked("users/get_users")) - before <= 2


async def test_each_is_told_under_its_own_name_each_state_once_and_the_end(gateway: Gateway, script: Script) -> None:
    async with crowd(gateway, 5, FOLLOW, id=script.id) as sockets:
        cursors: dict[int, list[str]] = {index: [] for index in range(5)}
        for _ in range(5):
            await script.move()
            for index, sock in enumerate(sockets):
                cursors[index].append(shown(await sock.next())["cursor"])
        await script.end()
        for sock in sockets:
            last, complete = await sock.next(), await sock.next()
            assert shown(last)["status"] == "COMPLETED"
            assert complete == {"id": last["id"], "type": "complete"}
    assert all(len(set(each)) == 5 for each in cursors.values())
    assert len({tuple(each) for each in cursors.values()}) == 1


async def test_who_comes_later_or_goes_earlier_changes_nothing_for_the_others(gateway: Gateway, script: Script) -> None:
    async with crowd(gateway, 3, FOLLOW, id=script.id) as (first, second, third):
        await second.connection.close()
        await script.move()
        moved = shown(await first.next())
        assert shown(await third.next()) == moved
        await first.connection.close()
        async with crowd(gateway, 1, FOLLOW, id=script.id) as (late,):
            await script.move()
            assert shown(await late.next()) == shown(await third.next()) != moved


async def test_a_group_goes_with_its_last_member(gateway: Gateway, script: Script) -> None:
    async with crowd(gateway, 4, FOLLOW, id=script.id):
        await until(lambda: len(groups()) == 1)
    await until(lambda: len(groups()) == 0)


async def test_who_follows_alone_after_others_have_gone_has_no_group(gateway: Gateway, script: Script) -> None:
    for _ in range(2):
        async with crowd(gateway, 3, FOLLOW, id=script.id):
            await until(lambda: len(groups()) == 1)
        await until(lambda: len(gateway.app.streams) == 0)
        await until(lambda: len(groups()) == 0)
        async with crowd(gateway, 1, FOLLOW, id=script.id) as (alone,):
            await script.move()
            await alone.next()
            assert groups() == []
        await until(lambda: len(gateway.app.streams) == 0)


def groups() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task.get_name() == "run a shared subscription"]


async def test_an_unsubscribed_stream_is_told_no_more(gateway: Gateway, script: Script) -> None:
    async with crowd(gateway, 2, FOLLOW, id=script.id) as (first, _), gateway.open(introduction()) as sock:
        name = await sock.subscribe(FOLLOW, id=script.id)
        await sock.next()
        await sock.say({"id": name, "type": "complete"})
        await asyncio.sleep(0.3)
        await script.move()
        await first.next()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await sock.next()


async def test_those_who_resume_share_and_are_told_only_what_is_newer(gateway: Gateway, script: Script) -> None:
    async with crowd(gateway, 1, FOLLOW, id=script.id) as (one,):
        await script.move()
        cursor = shown(await one.next())["cursor"]
    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(gateway.open(introduction())) for _ in range(4)]
        for sock in sockets:
            await sock.subscribe(FOLLOW, id=script.id, after=cursor)
        await asyncio.sleep(0.5)
        cursors: list[str] = []
        for _ in range(3):
            await script.move()
            told = {shown(await sock.next())["cursor"] for sock in sockets}
            assert len(told) == 1
            cursors.extend(told)
    assert len({cursor, *cursors}) == 4


@pytest.mark.parametrize("accept", [SSE, MULTIPART])
async def test_event_streams_and_sockets_share_with_each_other(
    gateway: Gateway, services: Services, script: Script, accept: str
) -> None:
    async with (
        crowd(gateway, 2, WITH_STARTER, id=script.id) as sockets,
        httpx.AsyncClient() as client,
        following(client, gateway, WITH_STARTER, accept=accept, id=script.id) as events,
    ):
        while (await anext(events)).kind != "next":
            pass
        await asyncio.sleep(0.3)
        before = len(services.asked("users/get_users"))
        await script.move()
        told = await anext(events)
        assert [shown(await sock.next()) for sock in sockets] == [told.data["data"]["operation"]] * 2
        if accept == SSE:
            assert told.id == told.data["data"]["operation"]["cursor"]
        assert len(services.asked("users/get_users")) - before <= 2
        await script.end()
        assert (await anext(events)).data["data"]["operation"]["status"] == "COMPLETED"
        assert (await anext(events)).kind == "complete"


async def test_two_viewers_share_nothing(gateway: Gateway, services: Services, temporal_client: Client) -> None:
    """Both administer Acme; what each may see of the other is theirs alone."""
    people = {TOKEN: session(), "grace": session("ses_" + "b" * 32, user_id=GRACE)}
    usual = services.handlers["users/get_users"]

    def find(caller: Caller, body: dict[str, Any]) -> Any:
        for token, found in people.items():
            if body["token_hash"] == token_hash(token):
                return found
        raise SessionEnded()

    def only_for_ada(caller: Caller, body: dict[str, Any]) -> Any:
        return usual(caller, body) if caller.user_id == ADA else []

    services.handlers |= {"auth/get_current_session": find, "users/get_users": only_for_ada}
    async with scripts(temporal_client) as starter:
        script = await _in_acme(starter)
        async with AsyncExitStack() as stack:
            opened = [(token, await stack.enter_async_context(gateway.open(introduction(token)))) for token in people]
            opened += [(token, await stack.enter_async_context(gateway.open(introduction(token)))) for token in people]
            for _, sock in opened:
                await sock.subscribe(WITH_STARTER, id=script.id)
                await sock.next()
            await script.move()
            for token, sock in opened:
                name = {"name": "Ada"} if token == TOKEN else None
                assert shown(await sock.next())["startedBy"] == name
        await script.end()


async def test_a_source_that_is_away_is_told_to_all_alike(gateway: Gateway, services: Services, script: Script) -> None:
    async with crowd(gateway, 4, WITH_STARTER, id=script.id) as sockets:

        def away(caller: object, body: object) -> None:
            raise ServiceUnavailable(service="users")

        services.handlers["users/get_users"] = away
        await gateway.app.connections.backend.dashboards.cache.invalidate(
            user_tag(ADA)
        )  # or they would be shown a copy
        await script.move()
        for sock in sockets:
            message = await sock.next()
            assert shown(message)["startedBy"] is None
            assert message["payload"]["errors"][0]["extensions"]["code"] == "UPSTREAM_UNAVAILABLE"


async def _in_acme(starter: ScriptStarter) -> Script:
    return await starter.start(user_id=ADA, tenant_id=session().tenant_id)
