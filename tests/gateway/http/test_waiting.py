"""How long a mutation waits for its operation, and which state it returns."""

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
from resolvers.operations.lifecycle import OperationLifecycle
from tests.gateway.fakes import ADA, FakeServices, session, settings
from tests.gateway.live_gateway import running_gateway
from tests.resolvers.scripted import Script, scripts


@pytest.fixture
async def operations(
    temporal_address: str, services: FakeServices, tmp_path: Path
) -> AsyncIterator[OperationLifecycle]:
    """The operations service of a running gateway."""
    async with running_gateway(settings(temporal_address, data_dir=tmp_path), services) as gateway:
        found: OperationLifecycle = gateway.app.connections.backend.operations
        yield found


@pytest.fixture
async def script(temporal_client: Client) -> AsyncIterator[Script]:
    """A scripted login of Ada."""
    async with scripts(temporal_client) as starter:
        script = await starter.start(OperationKind.LOGIN, user_id=ADA)
        yield script


def ada_access() -> OperationAccess:
    """Return Ada's access to operations, as a client that started every login."""

    async def no_session(_id: str) -> None:
        return None

    return OperationAccess(session(), started_login=lambda _: True, session_of_login=no_session)


async def test_returns_the_current_state_when_the_wait_ends_first(
    operations: OperationLifecycle, script: Script
) -> None:
    login = await operations.load_login_awaiting_mfa_code(ada_access(), script.id, Requester(ADA, ADA))
    began = time.monotonic()
    waiting = asyncio.create_task(operations.wait_after_mfa_code(login, wait_seconds=3))
    await asyncio.sleep(0.5)
    for _ in range(2):
        await script.move()
    operation = await waiting
    assert time.monotonic() - began >= 3
    assert (operation.state.status, operation.position.revision) == (OperationStatus.RUNNING, 2)
    await script.end()


async def test_returns_immediately_when_the_operation_ends(operations: OperationLifecycle, script: Script) -> None:
    login = await operations.load_login_awaiting_mfa_code(ada_access(), script.id, Requester(ADA, ADA))
    began = time.monotonic()
    waiting = asyncio.create_task(operations.wait_after_mfa_code(login, wait_seconds=25))
    await asyncio.sleep(0.2)
    await script.end()
    operation = await waiting
    assert time.monotonic() - began < 15
    assert operation.state.status is OperationStatus.COMPLETED


async def test_returns_the_current_state_without_waiting(operations: OperationLifecycle, script: Script) -> None:
    login = await operations.load_login_awaiting_mfa_code(ada_access(), script.id, Requester(ADA, ADA))
    await script.move()
    async with asyncio.timeout(15):
        while (await operations.wait_after_mfa_code(login, wait_seconds=0)).position.revision < 1:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await script.end()
