"""The dashboard over the edge: what it asks, what it asks no more, and what becomes of it when a source fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from aiocache.base import BaseCache
from temporalio.client import Client

from contracts.calls import Caller
from contracts.errors import PermissionDenied
from contracts.files import FilePage
from gateway.app import create_app
from resolvers.tokens import token_hash
from tests.gateway.fakes import (
    ACME,
    FILE,
    GLOBEX,
    GRACE,
    TOKEN,
    Handler,
    Services,
    file,
    person,
    session,
    settings,
)
from tests.gateway.temporal_calls import TemporalCalls

DASHBOARD = """
{ viewer { dashboard {
  profile { id } tenant { id } lastUpdated
  recentFiles { id downloadUrl owner { id } }
  activeOperations { id status startedBy { id } tenant { id } ... on TenantSwitch { toTenant { id } } }
} } }
"""
SWITCH = """
mutation { switchTenant(input: { tenantId: "%s", waitSeconds: 0 }) { operation { id } } }
"""
SOURCES = ("users/get_users", "tenants/get_tenants", "files/list_files")


class Gateway:
    """One process, and its calls of Temporal."""

    def __init__(self, http: httpx.AsyncClient, temporal: TemporalCalls) -> None:
        self.http = http
        self.temporal = temporal

    async def ask(self, query: str, *, token: str = TOKEN) -> Any:
        answer = await self.http.post("/graphql", json={"query": query}, headers={"authorization": f"Bearer {token}"})
        return answer.json()

    async def dashboard(self, *, token: str = TOKEN) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """The data, and the extensions of the errors by the path below the dashboard."""
        answer = await self.ask(DASHBOARD, token=token)
        errors = {".".join(map(str, error["path"][2:])): error["extensions"] for error in answer.get("errors", ())}
        return answer["data"]["viewer"]["dashboard"], errors

    async def start(self) -> str:
        answer = await self.ask(SWITCH % GLOBEX)
        return str(answer["data"]["switchTenant"]["operation"]["id"])


Start = Callable[..., Awaitable[Gateway]]


@pytest.fixture
async def start(temporal_address: str, tmp_path: Path, services: Services) -> AsyncIterator[Start]:
    """Starts a gateway before the same services; with ``redis_url``, one that shares what it knows."""
    running: list[Any] = []

    async def start(*, cache: BaseCache | None = None, redis_url: str | None = None) -> Gateway:
        context = _running(temporal_address, tmp_path, services, cache, redis_url)
        running.append(context)
        return await context.__aenter__()

    yield start
    for context in reversed(running):
        await context.__aexit__(None, None, None)


@asynccontextmanager
async def _running(
    temporal_address: str, folder: Path, services: Services, cache: BaseCache | None, redis_url: str | None
) -> AsyncIterator[Gateway]:
    temporal = TemporalCalls()
    app = create_app(
        settings(temporal_address, data_dir=folder, redis_url=redis_url),
        services=services.transport,
        cache=cache,
        interceptors=[temporal],
    )
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://gateway.test") as http,
    ):
        yield Gateway(http, temporal)


@pytest.fixture
async def gateway(start: Start) -> Gateway:
    return await start()


@pytest.fixture
def services() -> Services:
    """Of a user of this test's own, so that no other test's operations are hers."""
    services = Services()
    ada = new_user()
    services.handlers["auth/get_current_session"] = lambda caller, body: session(user_id=ada)
    services.handlers["users/get_users"] = lambda caller, body: [person(id) for id in body["ids"]]
    return services


def new_user() -> str:
    return f"usr_{uuid4().hex}"


def source_calls(services: Services) -> list[str]:
    return sorted(verb for verb, _, _ in services.calls if verb in SOURCES)


def after(seconds: float, handler: Handler) -> Handler:
    async def answer(caller: Caller, body: dict[str, Any]) -> Any:
        await asyncio.sleep(seconds)
        return handler(caller, body)

    return answer


def refuse(_caller: Caller, _body: dict[str, Any]) -> None:
    raise httpx.ConnectError("refused")


async def close(client: Client, operation_id: str) -> None:
    await client.get_workflow_handle(operation_id).terminate()


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - what it waits for is told to nobody here
            await asyncio.sleep(0.02)


async def test_shows_who_one_is_and_where_and_what_goes_on_there(gateway: Gateway) -> None:
    switch = await gateway.start()
    shown, errors = await gateway.dashboard()
    assert errors == {}
    me = shown["profile"]["id"]
    assert shown["tenant"] == {"id": ACME}
    assert shown["recentFiles"] == [
        {"id": FILE, "downloadUrl": "http://gateway.test/downloads/token", "owner": {"id": GRACE}}
    ]
    assert shown["activeOperations"] == [
        {"id": switch, "status": "RUNNING", "startedBy": {"id": me}, "tenant": {"id": ACME}, "toTenant": {"id": GLOBEX}}
    ]


async def test_all_sources_are_asked_at_once(gateway: Gateway, services: Services) -> None:
    together = asyncio.Barrier(len(SOURCES))
    for verb in SOURCES:
        usual = services.handlers[verb]

        async def answer(caller: Caller, body: dict[str, Any], usual: Handler = usual, verb: str = verb) -> Any:
            if services.asked(verb)[0] == body:
                await together.wait()
            return usual(caller, body)

        services.handlers[verb] = answer
    _, errors = await gateway.dashboard()
    assert errors == {}


@pytest.mark.parametrize(
    ("verb", "field"),
    [("users/get_users", "profile"), ("tenants/get_tenants", "tenant"), ("files/list_files", "recentFiles")],
)
async def test_a_service_that_is_down_leaves_its_field_null_and_is_named(
    gateway: Gateway, services: Services, verb: str, field: str
) -> None:
    services.handlers[verb] = refuse
    shown, errors = await gateway.dashboard()
    service = verb.partition("/")[0]
    assert shown[field] is None
    assert errors[field] == {"code": "UPSTREAM_UNAVAILABLE", "service": service}
    fields = {"profile", "tenant", "activeOperations"} | ({"recentFiles"} if service != "users" else set())
    assert {key for key in fields if shown[key] is None} == {field}


@pytest.mark.parametrize(
    ("verb", "field"),
    [("users/get_users", "profile"), ("tenants/get_tenants", "tenant"), ("files/list_files", "recentFiles")],
)
async def test_a_service_that_is_slow_is_given_up_after_a_second_and_holds_up_nothing_else(
    gateway: Gateway, services: Services, verb: str, field: str
) -> None:
    await gateway.start()
    services.handlers[verb] = after(4, services.handlers[verb])
    began = time.monotonic()
    shown, errors = await gateway.dashboard()
    assert time.monotonic() - began < 2
    service = verb.partition("/")[0]
    assert shown[field] is None
    assert errors[field] == {"code": "TIMEOUT", "service": service}
    assert shown["activeOperations"] is not None
    assert {extensions["service"] for extensions in errors.values()} == {service}


async def test_trouble_in_a_service_is_that_service_not_being_there(gateway: Gateway, services: Services) -> None:
    def trouble(caller: Caller, body: dict[str, Any]) -> None:
        raise ZeroDivisionError("the database is at 10.0.0.7")

    services.handlers["tenants/get_tenants"] = trouble
    shown, errors = await gateway.dashboard()
    assert shown["tenant"] is None
    assert errors["tenant"] == {"code": "UPSTREAM_UNAVAILABLE", "service": "tenants"}


async def test_what_a_service_answers_is_shown_as_it_is(gateway: Gateway, services: Services) -> None:
    def deny(caller: Caller, body: dict[str, Any]) -> None:
        raise PermissionDenied()

    services.handlers["files/list_files"] = deny
    shown, errors = await gateway.dashboard()
    assert shown["recentFiles"] is None
    assert errors == {"recentFiles": {"code": "FORBIDDEN"}}


@pytest.mark.parametrize(("slow", "code"), [(0.0, "UPSTREAM_UNAVAILABLE"), (4.0, "TIMEOUT")])
async def test_a_temporal_that_is_away_or_slow_leaves_only_the_operations_null(
    gateway: Gateway, slow: float, code: str
) -> None:
    gateway.temporal.away, gateway.temporal.slow = True, slow
    began = time.monotonic()
    shown, errors = await gateway.dashboard()
    assert time.monotonic() - began < 2
    assert shown["activeOperations"] is None
    assert errors == {"activeOperations": {"code": code, "service": "temporal"}}
    assert shown["profile"] is not None


async def test_a_warm_dashboard_asks_no_service_and_no_temporal(gateway: Gateway, services: Services) -> None:
    await gateway.start()
    await gateway.dashboard()
    await asyncio.sleep(0.5)  # until what was started is followed
    warm, _ = await gateway.dashboard()
    services.calls.clear()
    gateway.temporal.counts.clear()
    for _ in range(20):
        assert await gateway.dashboard() == (warm, {})
    assert services.calls == []
    assert gateway.temporal.counts["list"] == 0
    assert gateway.temporal.counts["describe"] <= 1  # a watcher looks in on a step that takes long, whoever asks


async def test_a_hundred_that_ask_at_once_cost_one_call_of_each_source(gateway: Gateway, services: Services) -> None:
    for verb in SOURCES:
        services.handlers[verb] = after(0.05, services.handlers[verb])
    shown = await asyncio.gather(*(gateway.dashboard() for _ in range(100)))
    assert all(errors == {} for _, errors in shown)
    owners_too = [*SOURCES, "users/get_users"]
    assert source_calls(services) == sorted(owners_too)
    assert gateway.temporal.counts["list"] == 1


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
    await close(temporal_client, switch)

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
    await close(temporal_client, shown["activeOperations"][0]["id"])
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


async def test_a_dead_service_costs_nothing_once_its_breaker_is_open(gateway: Gateway, services: Services) -> None:
    services.handlers["files/list_files"] = refuse
    for _ in range(8):
        _, errors = await gateway.dashboard()
        assert errors["recentFiles"]["code"] == "UPSTREAM_UNAVAILABLE"
    assert len(services.asked("files/list_files")) == 5
    assert 0 < errors["recentFiles"]["retryAfter"] <= 6


async def test_says_when_the_oldest_part_was_fetched(gateway: Gateway) -> None:
    first = (await gateway.dashboard())[0]["lastUpdated"]
    await asyncio.sleep(0.05)
    again = (await gateway.dashboard())[0]["lastUpdated"]
    third = (await gateway.dashboard())[0]["lastUpdated"]
    assert again == third
    assert abs(datetime.fromisoformat(first) - datetime.fromisoformat(again)) < timedelta(seconds=1)
