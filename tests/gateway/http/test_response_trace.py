"""A response has ``extensions.trace`` if RESPONSE_TRACE is on, and in development if the request asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.app import Gateway, create_app
from gateway.dependencies import Dependencies
from gateway.settings import FeatureVisibility, ResponseTracing, Settings
from infrastructure.caching.cache import Cache, MemoryCache
from infrastructure.settings_validation import Environment
from tests.end_to_end.client import Client
from tests.gateway.fakes import GLOBEX, TOKEN, FakeServices, settings
from tests.gateway.live_gateway import SWITCH, authorization, running_gateway
from tests.stack import Stack

ExecuteWithExtensions = Callable[..., Awaitable[Any]]

TRACED = {"trace": True}
VIEWER = "{ viewer { user { id } } }"
SWITCH_INPUT = {"tenantId": GLOBEX, "waitSeconds": 0}
UI = "http://temporal.test/"


@asynccontextmanager
async def gateway(
    configured: Settings, services: FakeServices, cache: Cache
) -> AsyncIterator[tuple[Gateway, ExecuteWithExtensions]]:
    """Run a gateway in this process; yield the application and a function that executes documents."""
    app = create_app(configured, Dependencies(services=services.transport, cache=cache))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway.localhost") as http,
    ):

        async def execute(query: str, extensions: object = None, **variables: object) -> Any:
            body = {"query": query, "variables": variables, "extensions": extensions}
            return (await http.post("/graphql", json=body, headers={"authorization": f"Bearer {TOKEN}"})).json()

        yield app, execute


async def test_trace_contains_service_calls_and_cache_hits(
    temporal_address: str, services: FakeServices, tmp_path: Path
) -> None:
    cache = MemoryCache()
    configured = settings(temporal_address, data_dir=tmp_path, response_trace=FeatureVisibility.ON)
    async with gateway(configured, services, cache) as (_, execute):
        dashboard = "{ viewer { dashboard { tenant { id } } } }"
        first = (await execute(dashboard))["extensions"]["trace"]
        again = (await execute(dashboard))["extensions"]["trace"]
    assert first["services"]["calls"] >= 1
    assert first["services"]["ms"] > 0
    assert first["cache"]["misses"] >= 1
    assert again["services"]["calls"] < first["services"]["calls"]
    assert again["cache"]["hits"] >= 1
    assert again["operations"] == []


async def test_trace_links_an_operation_to_the_temporal_ui(
    temporal_address: str, services: FakeServices, cache: Cache, tmp_path: Path
) -> None:
    configured = settings(temporal_address, data_dir=tmp_path, response_trace=FeatureVisibility.ON, temporal_ui_url=UI)
    async with gateway(configured, services, cache) as (_, execute):
        response = await execute(SWITCH, input={"tenantId": GLOBEX, "waitSeconds": 0})
    operation_id = response["data"]["switchTenant"]["operation"]["id"]
    trace = response["extensions"]["trace"]
    assert trace["temporal"]["calls"] >= 1
    assert trace["operations"] == [
        {"id": operation_id, "temporalUrl": f"http://temporal.test/namespaces/default/workflows/{operation_id}"}
    ]


async def test_only_the_first_result_of_a_stream_has_a_trace(separate_stack: Stack) -> None:
    ada = Client(separate_stack)
    await ada.log_in("ada@example.com")
    here = await ada.current_tenant()
    operation_id, _ = await ada.start_switch(await ada.tenant_id("Globex" if here == "Acme" else "Acme"))
    document = f'subscription {{ operation(id: "{operation_id}") {{ status cursor }} }}'
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        headers = {"authorization": f"Bearer {ada.token}", "accept": "text/event-stream"}
        body = {"query": document, "extensions": TRACED}
        response = await http.post(separate_stack.graphql, json=body, headers=headers)
    configured = [line for line in response.text.splitlines() if line.startswith("data: {")]
    assert len(configured) >= 1
    assert [number for number, line in enumerate(configured) if '"trace":' in line] == [0]
    assert operation_id in configured[0].partition('"trace":')[2]


async def test_trace_counts_redis_commands(separate_stack: Stack) -> None:
    ada = Client(separate_stack)
    await ada.log_in("ada@example.com")
    body = {"query": "{ viewer { user { id } } }", "extensions": TRACED}
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        headers = {"authorization": f"Bearer {ada.token}"}
        response = (await http.post(separate_stack.graphql, json=body, headers=headers)).json()
    assert response["extensions"]["trace"]["redis"]["calls"] >= 1


async def test_disabled_trace_counts_nothing_and_adds_no_extensions(
    temporal_address: str, services: FakeServices, cache: Cache, tmp_path: Path
) -> None:
    configured = settings(temporal_address, data_dir=tmp_path, response_trace=FeatureVisibility.OFF)
    async with gateway(configured, services, cache) as (app, execute):
        response = await execute("{ viewer { user { id } } }")
        client_interceptors = app.connections.temporal.config()["interceptors"]
    assert response["data"]["viewer"]
    assert "extensions" not in response
    assert "infrastructure.observability.response_trace" not in {type(each).__module__ for each in client_interceptors}


async def test_by_default_only_requests_for_a_trace_get_one(
    temporal_address: str, services: FakeServices, cache: Cache, tmp_path: Path
) -> None:
    configured = settings(temporal_address, data_dir=tmp_path, response_trace=None)
    async with gateway(configured, services, cache) as (_, execute):
        default = await execute(VIEWER)
        requested = await execute(VIEWER, TRACED)
        others = [await execute(VIEWER, extensions) for extensions in ({}, {"trace": False}, {"trace": "yes"})]
    assert "extensions" not in default
    assert requested["extensions"]["trace"]["services"]["calls"] >= 1
    assert not [response for response in others if "extensions" in response]


async def test_each_execution_counts_only_its_own_calls(
    temporal_address: str, services: FakeServices, cache: Cache, tmp_path: Path
) -> None:
    configured = settings(temporal_address, data_dir=tmp_path, response_trace=None)
    async with gateway(configured, services, cache) as (_, execute):
        responses = await asyncio.gather(*(execute(SWITCH, TRACED, input=SWITCH_INPUT) for _ in range(5)))
    for response in responses:
        operation_id = response["data"]["switchTenant"]["operation"]["id"]
        assert [each["id"] for each in response["extensions"]["trace"]["operations"]] == [operation_id]


async def test_websocket_requests_a_trace_for_one_operation(
    temporal_address: str, services: FakeServices, tmp_path: Path
) -> None:
    configured = settings(temporal_address, data_dir=tmp_path, response_trace=None)
    async with running_gateway(configured, services) as gateway, gateway.open(authorization()) as socket:
        traces = []
        for extensions in (TRACED, None):
            payload = {"query": VIEWER, "extensions": extensions}
            await socket.send({"id": "one", "type": "subscribe", "payload": payload})
            traces.append((await socket.receive_for("one"))["payload"].get("extensions"))
            assert (await socket.receive_for("one"))["type"] == "complete"
    assert traces[0]["trace"]["services"]["calls"] >= 1
    assert traces[1] is None


async def test_production_ignores_requests_for_a_trace(
    temporal_address: str, services: FakeServices, cache: Cache, tmp_path: Path
) -> None:
    production = settings(temporal_address, data_dir=tmp_path, response_trace=None).model_copy(
        update={"environment": Environment.PRODUCTION}
    )
    async with gateway(production, services, cache) as (_, execute):
        assert "extensions" not in await execute(VIEWER, TRACED)


@pytest.mark.parametrize(
    ("environment", "setting", "tracing"),
    [
        (Environment.DEVELOPMENT, None, ResponseTracing.ON_REQUEST),
        (Environment.DEVELOPMENT, FeatureVisibility.OFF, ResponseTracing.NEVER),
        (Environment.DEVELOPMENT, FeatureVisibility.ON, ResponseTracing.ALWAYS),
        (Environment.PRODUCTION, None, ResponseTracing.NEVER),
        (Environment.PRODUCTION, FeatureVisibility.FORCE, ResponseTracing.ALWAYS),
    ],
)
def test_environment_and_setting_decide_the_tracing_mode(
    environment: Environment, setting: FeatureVisibility | None, tracing: ResponseTracing
) -> None:
    keys = {"codec_keys": f"one:{'A' * 43}=", "service_key": "s" * 32}
    configured = Settings.model_validate(
        {"secret_key": "k" * 32, "environment": environment, "response_trace": setting} | keys
    )
    assert configured.response_traces() is tracing
