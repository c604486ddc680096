"""The cache of the dashboard: which calls it saves, what invalidates it, and that users share no entries."""

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
    StartGateway,
    close_operation,
    delayed,
    fail_to_connect,
    new_user,
    source_calls,
    wait_until,
)
from tests.gateway.fakes import (
    GLOBEX,
    FakeServices,
    file,
    session,
)


async def test_cached_dashboard_calls_only_the_record_of_operations(gateway: Gateway, services: FakeServices) -> None:
    await gateway.start()
    await gateway.dashboard()
    warm, _ = await gateway.dashboard()
    services.calls.clear()
    gateway.temporal.counts.clear()
    for _ in range(20):
        assert await gateway.dashboard() == (warm, {})
    # Without Redis, which would invalidate a cached session, each request reads its session.
    assert [verb for verb, _, _ in services.calls if not verb.startswith("auth/")] == [LISTS] * 20
    assert gateway.temporal.counts == {}


async def test_a_hundred_concurrent_dashboards_call_each_source_once(gateway: Gateway, services: FakeServices) -> None:
    for verb in SOURCES:
        services.handlers[verb] = delayed(0.05, services.handlers[verb])
    shown = await asyncio.gather(*(gateway.dashboard() for _ in range(100)))
    assert all(errors == {} for _, errors in shown)
    expected_calls = [*SOURCES, "users/get_users"]
    assert source_calls(services) == sorted(expected_calls)
    assert gateway.temporal.counts == {}


async def test_new_preferences_invalidate_the_cached_dashboard(gateway: Gateway, services: FakeServices) -> None:
    await gateway.dashboard()
    services.calls.clear()
    await gateway.execute("mutation { updatePreferences(input: { theme: DARK }) { preferences { theme } } }")
    await gateway.dashboard()
    assert set(source_calls(services)) == set(SOURCES)


@pytest.mark.parametrize("shared", [False, True])
async def test_closed_operation_invalidates_the_dashboard_in_every_process(
    start_gateway: StartGateway, services: FakeServices, temporal_client: Client, redis_url: str, shared: bool
) -> None:
    gateway = await start_gateway(redis_url=redis_url if shared else None)
    other_gateway = await start_gateway(redis_url=redis_url) if shared else gateway
    switch = await gateway.start()
    for each in (gateway, other_gateway):
        shown, _ = await each.dashboard()
        assert [operation["id"] for operation in shown["activeOperations"]] == [switch]
    services.calls.clear()
    await close_operation(temporal_client, switch, services)

    async def is_gone() -> bool:
        shown, _ = await other_gateway.dashboard()
        return not shown["activeOperations"]

    async def is_outdated() -> bool:
        await other_gateway.dashboard()  # a dashboard that was fetched during the close may combine old and new parts
        return set(source_calls(services)) == set(SOURCES)

    await wait_until(is_gone)
    await wait_until(is_outdated, 1)


async def test_mutation_that_waits_responds_after_the_dashboard_was_invalidated(
    gateway: Gateway, services: FakeServices, temporal_client: Client
) -> None:
    await gateway.dashboard()
    waiting = asyncio.create_task(gateway.execute((SWITCH % GLOBEX).replace("waitSeconds: 0", "waitSeconds: 20")))

    async def is_active() -> bool:
        return bool((await gateway.dashboard())[0]["activeOperations"])

    await wait_until(is_active)
    ((shown, _),) = [await gateway.dashboard()]
    services.calls.clear()
    await temporal_client.get_workflow_handle(shown["activeOperations"][0]["id"]).terminate()
    await waiting
    shown, _ = await gateway.dashboard()
    assert shown["activeOperations"] == []
    assert set(source_calls(services)) == set(SOURCES)


async def test_change_during_a_fetch_is_in_the_next_dashboard(gateway: Gateway, services: FakeServices) -> None:
    was_called, response = asyncio.Event(), asyncio.Event()
    names = iter(("before", "after"))

    async def slow_list(caller: Caller, body: dict[str, Any]) -> Any:
        name = next(names)
        was_called.set()
        await response.wait()
        return FilePage(files=(file(f"fil_{name}"),), has_next_page=False, total_count=1)

    services.handlers["files/list_files"] = slow_list
    first = asyncio.create_task(gateway.dashboard())
    await was_called.wait()
    await gateway.execute("mutation { updatePreferences(input: { theme: DARK }) { preferences { theme } } }")
    response.set()
    assert (await first)[0]["recentFiles"][0]["id"] == "fil_before"
    assert (await gateway.dashboard())[0]["recentFiles"][0]["id"] == "fil_after"


async def test_cached_entries_are_not_shared_between_users(gateway: Gateway, services: FakeServices) -> None:
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


async def test_does_not_cache_failures(gateway: Gateway, services: FakeServices) -> None:
    default_handler = services.handlers["files/list_files"]
    services.handlers["files/list_files"] = fail_to_connect
    assert (await gateway.dashboard())[0]["recentFiles"] is None
    services.handlers["files/list_files"] = default_handler
    assert (await gateway.dashboard())[0]["recentFiles"] is not None


async def test_caches_a_response_that_arrives_after_the_timeout(gateway: Gateway, services: FakeServices) -> None:
    services.handlers["files/list_files"] = delayed(1.3, services.handlers["files/list_files"])
    assert (await gateway.dashboard())[1] == {"recentFiles": {"code": "TIMEOUT", "service": "files"}}
    await asyncio.sleep(0.5)
    assert (await gateway.dashboard())[1] == {}
    assert len(services.requests_to("files/list_files")) == 1


async def test_dashboard_works_without_redis(start_gateway: StartGateway, services: FakeServices) -> None:
    gateway = await start_gateway(redis_url="redis://127.0.0.1:1/0")
    switch = await gateway.start()
    for _ in range(3):
        shown, errors = await gateway.dashboard()
        assert errors == {}
        assert [operation["id"] for operation in shown["activeOperations"]] == [switch]


async def test_last_updated_is_the_time_of_the_oldest_part(gateway: Gateway) -> None:
    first = (await gateway.dashboard())[0]["lastUpdated"]
    await asyncio.sleep(0.05)
    again = (await gateway.dashboard())[0]["lastUpdated"]
    third = (await gateway.dashboard())[0]["lastUpdated"]
    assert again == third
    assert abs(datetime.fromisoformat(first) - datetime.fromisoformat(again)) < timedelta(seconds=1)
