"""Sources of the dashboard: concurrent calls, and the result when a source is unavailable, slow or refuses."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from contracts.callers import Caller
from contracts.errors import PermissionDenied
from tests.gateway.dashboard.dashboard_client import LISTS, SOURCES, Gateway, delayed, fail_to_connect
from tests.gateway.fakes import (
    ACME,
    FILE,
    GLOBEX,
    GRACE,
    FakeServices,
    Handler,
)


async def test_shows_profile_tenant_files_and_active_operations(gateway: Gateway) -> None:
    switch = await gateway.start()
    shown, errors = await gateway.dashboard()
    assert errors == {}
    user_id = shown["profile"]["id"]
    assert shown["tenant"] == {"id": ACME}
    assert shown["recentFiles"] == [
        {"id": FILE, "downloadUrl": "http://gateway.localhost/downloads/token", "owner": {"id": GRACE}}
    ]
    assert shown["activeOperations"] == [
        {
            "id": switch,
            "status": "RUNNING",
            "startedBy": {"id": user_id},
            "tenant": {"id": ACME},
            "toTenant": {"id": GLOBEX},
        }
    ]


async def test_calls_all_sources_concurrently(gateway: Gateway, services: FakeServices) -> None:
    barrier = asyncio.Barrier(len(SOURCES))
    for verb in SOURCES:
        default_handler = services.handlers[verb]

        async def response(
            caller: Caller, body: dict[str, Any], default_handler: Handler = default_handler, verb: str = verb
        ) -> Any:
            if services.requests_to(verb)[0] == body:
                await barrier.wait()
            return default_handler(caller, body)

        services.handlers[verb] = response
    _, errors = await gateway.dashboard()
    assert errors == {}


@pytest.mark.parametrize(
    ("verb", "field"),
    [("users/get_users", "profile"), ("tenants/get_tenants", "tenant"), ("files/list_files", "recentFiles")],
)
async def test_unavailable_service_makes_its_field_null_and_is_named_in_the_error(
    gateway: Gateway, services: FakeServices, verb: str, field: str
) -> None:
    services.handlers[verb] = fail_to_connect
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
async def test_slow_service_times_out_after_a_second_and_delays_no_other_field(
    gateway: Gateway, services: FakeServices, verb: str, field: str
) -> None:
    await gateway.start()
    services.handlers[verb] = delayed(60, services.handlers[verb])
    began = time.monotonic()
    shown, errors = await gateway.dashboard()
    assert time.monotonic() - began < 30
    service = verb.partition("/")[0]
    assert shown[field] is None
    assert errors[field] == {"code": "TIMEOUT", "service": service}
    assert shown["activeOperations"] is not None
    assert {extensions["service"] for extensions in errors.values()} == {service}


async def test_unexpected_error_of_a_service_counts_as_unavailable(gateway: Gateway, services: FakeServices) -> None:
    def fail(caller: Caller, body: dict[str, Any]) -> None:
        raise ZeroDivisionError("the database is at 10.0.0.7")

    services.handlers["tenants/get_tenants"] = fail
    shown, errors = await gateway.dashboard()
    assert shown["tenant"] is None
    assert errors["tenant"] == {"code": "UPSTREAM_UNAVAILABLE", "service": "tenants"}


async def test_domain_error_of_a_service_is_shown_unchanged(gateway: Gateway, services: FakeServices) -> None:
    def deny(caller: Caller, body: dict[str, Any]) -> None:
        raise PermissionDenied()

    services.handlers["files/list_files"] = deny
    shown, errors = await gateway.dashboard()
    assert shown["recentFiles"] is None
    assert errors == {"recentFiles": {"code": "FORBIDDEN", "reason": "NOT_PERMITTED"}}


@pytest.mark.parametrize(("delay_seconds", "code"), [(0.0, "UPSTREAM_UNAVAILABLE"), (60.0, "TIMEOUT")])
async def test_unavailable_or_slow_record_makes_only_the_operations_null(
    gateway: Gateway, services: FakeServices, delay_seconds: float, code: str
) -> None:
    services.handlers[LISTS] = delayed(delay_seconds, services.handlers[LISTS]) if delay_seconds else fail_to_connect
    began = time.monotonic()
    shown, errors = await gateway.dashboard()
    assert time.monotonic() - began < 30
    assert shown["activeOperations"] is None
    assert errors == {"activeOperations": {"code": code, "service": "operations"}}
    assert shown["profile"] is not None


async def test_dashboard_is_complete_while_temporal_is_unavailable(gateway: Gateway) -> None:
    switch = await gateway.start()
    gateway.temporal.is_unavailable = True
    shown, errors = await gateway.dashboard()
    assert errors == {}
    assert [operation["id"] for operation in shown["activeOperations"]] == [switch]


async def test_open_circuit_breaker_stops_calls_to_an_unavailable_service(
    gateway: Gateway, services: FakeServices
) -> None:
    services.handlers["files/list_files"] = fail_to_connect
    for _ in range(8):
        _, errors = await gateway.dashboard()
        assert errors["recentFiles"]["code"] == "UPSTREAM_UNAVAILABLE"
    assert len(services.requests_to("files/list_files")) == 5
    assert 0 < errors["recentFiles"]["retryAfter"] <= 6
