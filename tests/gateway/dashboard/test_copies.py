"""What the dashboard asks no more: copies, what outdates them, and whose they are."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest
from temporalio.client import Client

from contracts.callers import Caller
from contracts.files import FilePage
from resolvers.tokens import token_hash
from tests.gateway.dashboard.dashboard_client import (
    LISTS,
    SOURCES,
    SWITCH,
    Gateway,
    Start,
    after,
    close,
    new_user,
    refuse,
    source_calls,
    until,
)
from tests.gateway.fakes import (
    GLOBEX,
    Services,
    file,
    session,
)


async def test_a_warm_dashboard_asks_only_the_record_and_no_temporal(gateway: Gateway, services: Services) -> None:
    await gateway.start()
    await gateway.dashboard()
    warm, _ = await gateway.dashboard()
    services.calls.clear()
    gateway.temporal.counts.clear()
    for _ in range(20):
        assert await gateway.dashboard() == (warm, {})
    # Of the session each request asks, where there is no Redis that would outdate a copy.
    assert [verb for verb, _, _ in services.calls if not verb.startswith("auth/")] == [LISTS] * 20
    assert gateway.temporal.counts == {}


async def test_a_hundred_that_ask_at_once_cost_one_call_of_each_source(gateway: Gateway, services: Services) -> None:
    for verb in SOURCES:
        services.handlers[verb] = after(0.05, services.handlers[verb])
    shown = await asyncio.gather(*(gateway.dashboard() for _ in range(100)))
    assert all(errors == {} for _, errors in shown)
    owners_too = [*SOURCES, "users/get_users"]
    assert source_calls(services) == sorted(owners_too)
    assert gateway.temporal.counts == {}


async def test_new_preferences_outdate_it(gateway: Gateway, services: Services) -> None:
    await gateway.dashboard()
    services.calls.clear()
    await gateway.ask("mutation { updatePreferences(input: { theme: DARK }) { preferences { theme } } }")
    await gateway.dashboard()
    assert set(source_calls(services)) == set(SOURCES)


@pytest.mark.parametrize("shared", [False, True])
async def test_an_operation_that_closed_is_gone_and_outdates_it_in_every_process(
    start: Start, services: Services, temporal_client: Client, redis_url: str, shared: bool
) -> None:
    gateway = await start(redis_url=redis_url if shared else None)
    onlooker = await start(redis_url=redis_url) if shared else gateway
    switch = await gateway.start()
    for each in (gateway, onlooker):
        shown, _ = await each.dashboard()
        assert [operation["id"] for operation in shown["activeOperations"]] == [switch]
    services.calls.clear()
    await close(temporal_client, switch, services)

    async def is_gone() -> bool:
        shown, _ = await onlooker.dashboard()
        return not shown["activeOperations"]

    async def is_outdated() -> bool:
        await onlooker.dashboard()  # one that was asked for as it closed read its parts side by side
        return set(source_calls(services)) == set(SOURCES)

    await until(is_gone)
    await until(is_outdated, 1)


async def test_who_hears_of_a_close_finds_what_it_changed(
    gateway: Gateway, services: Services, temporal_client: Client
) -> None:
    """A mutation that waits is answered after the dashboard was outdated, not before."""
    await gateway.dashboard()
    waiting = asyncio.create_task(gateway.ask((SWITCH % GLOBEX).replace("waitSeconds: 0", "waitSeconds: 20")))

    async def is_active() -> bool:
        return bool((await gateway.dashboard())[0]["activeOperations"])

    await until(is_active)
    ((shown, _),) = [await gateway.dashboard()]
    services.calls.clear()
    await temporal_client.get_workflow_handle(shown["activeOperations"][0]["id"]).terminate()
    await waiting
    shown, _ = await gateway.dashboard()
    assert shown["activeOperations"] == []
    assert set(source_calls(services)) == set(SOURCES)


async def test_a_change_while_it_is_fetched_is_in_the_next_one(gateway: Gateway, services: Services) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()
    names = iter(("before", "after"))

    async def slowly(caller: Caller, body: dict[str, Any]) -> Any:
        name = next(names)
        asked.set()
        await answer.wait()
        return FilePage(files=(file(f"fil_{name}"),), has_next_page=False, total_count=1)

    services.handlers["files/list_files"] = slowly
    first = asyncio.create_task(gateway.dashboard())
    await asked.wait()
    await gateway.ask("mutation { updatePreferences(input: { theme: DARK }) { preferences { theme } } }")
    answer.set()
    assert (await first)[0]["recentFiles"][0]["id"] == "fil_before"
    assert (await gateway.dashboard())[0]["recentFiles"][0]["id"] == "fil_after"


async def test_nobody_sees_the_copy_that_was_made_for_somebody_else(gateway: Gateway, services: Services) -> None:
    ada, grace = new_user(), new_user()
    by_token = {token_hash("a"): session(user_id=ada), token_hash("g"): session(user_id=grace)}
    services.handlers["auth/get_current_session"] = lambda caller, body: by_token[body["token_hash"]]
    services.handlers["files/list_files"] = lambda caller, body: FilePage(
        files=(file(f"fil_of_{caller.user_id}"),), has_next_page=False, total_count=1
    )
    for token, user_id in (("a", ada), ("g", grace), ("a", ada)):
        shown, _ = await gateway.dashboard(token=token)
        assert shown["profile"]["id"] == user_id
        assert shown["recentFiles"][0]["id"] == f"fil_of_{user_id}"


async def test_a_failure_is_not_kept(gateway: Gateway, services: Services) -> None:
    usual = services.handlers["files/list_files"]
    services.handlers["files/list_files"] = refuse
    assert (await gateway.dashboard())[0]["recentFiles"] is None
    services.handlers["files/list_files"] = usual
    assert (await gateway.dashboard())[0]["recentFiles"] is not None


async def test_one_that_came_too_late_is_there_the_next_time(gateway: Gateway, services: Services) -> None:
    services.handlers["files/list_files"] = after(1.3, services.handlers["files/list_files"])
    assert (await gateway.dashboard())[1] == {"recentFiles": {"code": "TIMEOUT", "service": "files"}}
    await asyncio.sleep(0.5)
    assert (await gateway.dashboard())[1] == {}
    assert len(services.asked("files/list_files")) == 1


async def test_a_redis_that_is_away_costs_calls_but_nothing_else(start: Start, services: Services) -> None:
    gateway = await start(redis_url="redis://127.0.0.1:1/0")
    switch = await gateway.start()
    for _ in range(3):
        shown, errors = await gateway.dashboard()
        assert errors == {}
        assert [operation["id"] for operation in shown["activeOperations"]] == [switch]


async def test_says_when_the_oldest_part_was_fetched(gateway: Gateway) -> None:
    first = (await gateway.dashboard())[0]["lastUpdated"]
    await asyncio.sleep(0.05)
    again = (await gateway.dashboard())[0]["lastUpdated"]
    third = (await gateway.dashboard())[0]["lastUpdated"]
    assert again == third
    assert abs(datetime.fromisoformat(first) - datetime.fromisoformat(again)) < timedelta(seconds=1)
