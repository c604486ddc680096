"""While a product is developed each answer tells what it took; elsewhere nothing is counted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiocache.base import BaseCache
from starlette.applications import Starlette

from contracts.environment import Environment
from gateway.app import create_app
from gateway.settings import Settings, Shown
from tests.end_to_end.client import Client
from tests.gateway.fakes import GLOBEX, TOKEN, Services, settings
from tests.gateway.serving import SWITCH
from tests.stack import Stack

Asking = Callable[..., Awaitable[Any]]

UI = "http://temporal.test/"


@asynccontextmanager
async def gateway(told: Settings, services: Services, cache: BaseCache) -> AsyncIterator[tuple[Starlette, Asking]]:
    app = create_app(told, services=services.transport, cache=cache)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway.localhost") as http,
    ):

        async def ask(query: str, **variables: object) -> Any:
            body = {"query": query, "variables": variables}
            return (await http.post("/graphql", json=body, headers={"authorization": f"Bearer {TOKEN}"})).json()

        yield app, ask


async def test_calls_are_told_and_what_the_cache_had(
    temporal_address: str, services: Services, cache: BaseCache, tmp_path: Path
) -> None:
    told = settings(temporal_address, data_dir=tmp_path, trace_answers=Shown.ON)
    async with gateway(told, services, cache) as (_, ask):
        dashboard = "{ viewer { dashboard { tenant { id } } } }"
        first = (await ask(dashboard))["extensions"]["trace"]
        again = (await ask(dashboard))["extensions"]["trace"]
    assert first["services"]["calls"] >= 1
    assert first["services"]["ms"] > 0
    assert first["cache"]["misses"] >= 1
    assert again["services"]["calls"] < first["services"]["calls"]
    assert again["cache"]["hits"] >= 1
    assert again["operations"] == []


async def test_an_operation_is_linked_to_where_temporal_shows_it(
    temporal_address: str, services: Services, cache: BaseCache, tmp_path: Path
) -> None:
    told = settings(temporal_address, data_dir=tmp_path, trace_answers=Shown.ON, temporal_ui_url=UI)
    async with gateway(told, services, cache) as (_, ask):
        answer = await ask(SWITCH, input={"tenantId": GLOBEX, "waitSeconds": 0})
    operation_id = answer["data"]["switchTenant"]["operation"]["id"]
    trace = answer["extensions"]["trace"]
    assert trace["temporal"]["calls"] >= 1
    assert trace["operations"] == [
        {"id": operation_id, "temporalUrl": f"http://temporal.test/namespaces/default/workflows/{operation_id}"}
    ]


async def test_the_first_result_of_a_stream_tells_it_and_no_other(separate_stack: Stack) -> None:
    ada = Client(separate_stack)
    await ada.log_in("ada@example.com")
    here = await ada.current_tenant()
    operation_id, _ = await ada.start_switch(await ada.tenant("Globex" if here == "Acme" else "Acme"))
    document = f'subscription {{ operation(id: "{operation_id}") {{ status cursor }} }}'
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        headers = {"authorization": f"Bearer {ada.token}", "accept": "text/event-stream"}
        answer = await http.post(separate_stack.graphql, json={"query": document}, headers=headers)
    told = [line for line in answer.text.splitlines() if line.startswith("data: {")]
    assert len(told) >= 1
    assert [number for number, line in enumerate(told) if '"trace":' in line] == [0]
    assert operation_id in told[0].partition('"trace":')[2]


async def test_commands_to_redis_are_counted(separate_stack: Stack) -> None:
    ada = Client(separate_stack)
    await ada.log_in("ada@example.com")
    answer = await ada.hear("{ viewer { user { id } } }")
    assert answer["extensions"]["trace"]["redis"]["calls"] >= 1


async def test_without_the_setting_nothing_is_counted_and_nothing_told(
    temporal_address: str, services: Services, cache: BaseCache, tmp_path: Path
) -> None:
    told = settings(temporal_address, data_dir=tmp_path, trace_answers=Shown.OFF)
    async with gateway(told, services, cache) as (app, ask):
        answer = await ask("{ viewer { user { id } } }")
        around = app.state.temporal.config()["interceptors"]
    assert answer["data"]["viewer"]
    assert "extensions" not in answer
    assert "gateway.counting" not in {type(each).__module__ for each in around}
    assert not cache.plugins


@pytest.mark.parametrize(("environment", "shown"), [(Environment.DEVELOPMENT, True), (Environment.PRODUCTION, False)])
def test_it_is_for_development(environment: Environment, shown: bool) -> None:
    keys = {"codec_keys": f"one:{'A' * 43}=", "service_key": "s" * 32}
    told = Settings.model_validate({"secret_key": "k" * 32, "environment": environment} | keys)
    assert told.traces_answers() is shown
