"""Fixtures for all tests: servers (Temporal, Redis, PostgreSQL), and the whole product running with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
import structlog
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from infrastructure.temporal.connection import connect, ensure_search_attributes
from tests.docker.deployed import start_deployed_stack
from tests.servers import Postgres, running_postgres, running_redis, running_temporal
from tests.stack import Stack, start_dev_stack, start_separate_stack
from worker.dev.binaries import temporal_test_server

pytest_plugins = ["tests.xdist_scheduling"]


def pytest_configure() -> None:
    """Log tracebacks as plain text: structlog's default adds all local variables, which takes seconds per traceback."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ]
    )


@pytest.fixture(scope="session")
def temporal_address() -> Iterator[str]:
    """The address of a Temporal server with the product's search attributes."""
    with running_temporal() as server:
        asyncio.run(_register_search_attributes(server.address))
        yield server.address


async def _register_search_attributes(address: str) -> None:
    await ensure_search_attributes(await connect(address=address, namespace=None, keys=None))


@pytest.fixture
async def temporal_client(temporal_address: str) -> Client:
    return await connect(address=temporal_address, namespace=None, keys=None)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def time_skipping() -> AsyncIterator[WorkflowEnvironment]:
    """Temporal's time-skipping test server, one for each module.

    Tests of a module share its clock and its workflows, so each test ends the workflows that it has started.
    """
    async with await _start_time_skipping() as environment:
        yield environment


@pytest.fixture
async def own_time_skipping() -> AsyncIterator[WorkflowEnvironment]:
    """A time-skipping test server of one test, which moves the clock itself.

    A shared server does not skip time while it waits for the activity of a workflow that an earlier test has ended.
    """
    async with await _start_time_skipping() as environment:
        yield environment


async def _start_time_skipping() -> WorkflowEnvironment:
    return await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=str(temporal_test_server()), data_converter=pydantic_data_converter
    )


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with running_redis() as url:
        yield url


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: Postgres) -> str:
    """The URL of a new, empty database."""
    return postgres.new_database()


@pytest.fixture(scope="session")
def dev_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The process of `make dev`, with the demo data."""
    with start_dev_stack(tmp_path_factory.mktemp("dev")) as stack:
        yield stack


@pytest.fixture(scope="session")
def separate_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A gateway and a worker as separate processes, with PostgreSQL, Redis and the demo data."""
    with start_separate_stack(tmp_path_factory.mktemp("separate")) as stack:
        yield stack


@pytest.fixture(scope="session")
def deployed_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two gateways and one worker per domain, as docker/compose.yaml starts them, with the demo data."""
    with start_deployed_stack(tmp_path_factory.mktemp("deployed")) as stack:
        yield stack


@pytest.fixture(scope="session")
def kubernetes_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two gateways and one worker per domain, as docker/kubernetes starts them, with the demo data."""
    with start_deployed_stack(tmp_path_factory.mktemp("kubernetes"), on_kubernetes=True) as stack:
        yield stack


@pytest.fixture(scope="session")
def mypy_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mypy cache that all copies of the project share."""
    return tmp_path_factory.mktemp("mypy") / "cache"
