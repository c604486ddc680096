"""What the dashboard asks, and what becomes of it when a source is away, slow or refuses."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from contracts.callers import Caller
from contracts.errors import PermissionDenied
from tests.gateway.dashboard.dashboard_client import LISTS, SOURCES, Gateway, after, refuse
from tests.gateway.fakes import (
    ACME,
    FILE,
    GLOBEX,
    GRACE,
    Handler,
    Services,
)


async def test_shows_who_one_is_and_where_and_what_goes_on_there(gateway: Gateway) -> None:
    switch = await gateway.start()
    shown, errors = await gateway.dashboard()
    assert errors == {}
    me = shown["profile"]["id"]
    assert shown["tenant"] == {"id": ACME}
    assert shown["recentFiles"] == [
        {"id": FILE, "downloadUrl": "http://gateway.localhost/downloads/token", "owner": {"id": GRACE}}
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
    services.handlers[verb] = after(60, services.handlers[verb])
    began = time.monotonic()
    shown, errors = await gateway.dashboard()
    assert time.monotonic() - began < 30
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
    assert errors == {"recentFiles": {"code": "FORBIDDEN", "reason": "NOT_PERMITTED"}}


@pytest.mark.parametrize(("slow", "code"), [(0.0, "UPSTREAM_UNAVAILABLE"), (60.0, "TIMEOUT")])
async def test_a_record_that_is_away_or_slow_leaves_only_the_operations_null(
    gateway: Gateway, services: Services, slow: float, code: str
) -> None:
    services.handlers[LISTS] = after(slow, services.handlers[LISTS]) if slow else refuse
    began = time.monotonic()
    shown, errors = await gateway.dashboard()
    assert time.monotonic() - began < 30
    assert shown["activeOperations"] is None
    assert errors == {"activeOperations": {"code": code, "service": "operations"}}
    assert shown["profile"] is not None


async def test_a_temporal_that_is_away_leaves_the_dashboard_whole(gateway: Gateway) -> None:
    switch = await gateway.start()
    gateway.temporal.away = True
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
