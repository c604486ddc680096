"""How long a mutation waits for its operation, and what it then shows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.client import Client

from contracts.operations import OperationKind, OperationStatus
from infrastructure.limits.fair_semaphore import Requester
from resolvers.operations.access import OperationAccess
from resolvers.operations.operations import Operations
from tests.gateway.fakes import ADA, Services, session, settings
from tests.gateway.live_gateway import running_gateway
from tests.resolvers.scripted import Script, scripts


@pytest.fixture
async def operations(temporal_address: str, services: Services, tmp_path: Path) -> AsyncIterator[Operations]:
    async with running_gateway(settings(temporal_address, data_dir=tmp_path), services) as gateway:
        found: Operations = gateway.app.connections.backend.operations
        yield found


@pytest.fixture
async def script(temporal_client: Client) -> AsyncIterator[Script]:
    async with scripts(temporal_client) as starter:
        script = await starter.start(OperationKind.LOGIN, user_id=ADA)
        yield script


def access() -> OperationAccess:
    async def nothing(_id: str) -> None:
        return None

    return OperationAccess(session(), started_login=lambda _: True, session_of_login=nothing)


async def test_what_has_not_ended_within_the_seconds_is_shown_as_it_stands_then(
    operations: Operations, script: Script
) -> None:
    login = await operations.login_awaiting_code(access(), script.id, Requester(ADA, ADA))
    began = time.monotonic()
    waiting = asyncio.create_task(operations.after_code(login, wait_seconds=3))
    await asyncio.sleep(0.5)
    for _ in range(2):
        await script.move()
    shown = await waiting
    assert time.monotonic() - began >= 3
    assert (shown.state.status, shown.position.revision) == (OperationStatus.RUNNING, 2)
    await script.end()


async def test_what_ends_within_the_seconds_is_shown_at_once(operations: Operations, script: Script) -> None:
    login = await operations.login_awaiting_code(access(), script.id, Requester(ADA, ADA))
    began = time.monotonic()
    waiting = asyncio.create_task(operations.after_code(login, wait_seconds=25))
    await asyncio.sleep(0.2)
    await script.end()
    shown = await waiting
    assert time.monotonic() - began < 15
    assert shown.state.status is OperationStatus.COMPLETED


async def test_who_does_not_wait_is_shown_the_operation_as_it_stands(operations: Operations, script: Script) -> None:
    login = await operations.login_awaiting_code(access(), script.id, Requester(ADA, ADA))
    await script.move()
    async with asyncio.timeout(15):
        while (await operations.after_code(login, wait_seconds=0)).position.revision < 1:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await script.end()
