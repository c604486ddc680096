"""The database of a worker process: one Tortoise app and one line of migrations for each domain, on one connection."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from asyncpg import PostgresError
from tortoise import Tortoise
from tortoise.config import AppConfig, DBUrlConfig, TortoiseConfig
from tortoise.context import TortoiseContext
from tortoise.exceptions import DBConnectionError
from tortoise.migrations import api

from infrastructure.startup import DatabaseUnusable, error_reason

if TYPE_CHECKING:
    from infrastructure.observability.spans import Spans

DOMAINS = ("auth", "users", "tenants", "files", "workspaces", "notifications", "operations")
"""The domains that have tables."""


def configuration(url: str) -> TortoiseConfig:
    """Tortoise's configuration for ``sqlite://FILE`` or ``postgres://...``."""
    # Tortoise keeps its statements by the name of the connection, for all the process: each dialect needs its own name.
    name = url.partition(":")[0]
    return TortoiseConfig(
        connections={name: DBUrlConfig(url)},
        apps={
            domain: AppConfig(
                models=[f"activities.{domain}.models"],
                default_connection=name,
                migrations=f"activities.{domain}.migrations",
            )
            for domain in DOMAINS
        },
    )


@asynccontextmanager
async def database(url: str) -> AsyncIterator[None]:
    """Open the database for the whole process: activities, requests and whatever else runs while this is entered.

    Tortoise finds it by its global fallback, since requests and activities do not inherit the context of whoever
    started them. So a process has one at a time.
    """
    _check(url)
    context = TortoiseContext()
    with _explained(url), context:  # needed for the initialization only
        await context.init(configuration(url), _enable_global_fallback=True)
    try:
        yield
    finally:
        await context.close_connections()


async def migrate(url: str) -> None:
    """Bring every domain's tables to the newest state; harmless where they are."""
    _check(url)
    with _explained(url):
        async with TortoiseContext():
            await api.migrate(config=configuration(url))


def _check(url: str) -> None:
    """Raise DatabaseUnusable where SQLite could not open its file, for its driver would then wait without end."""
    name, _, path = url.partition("://")
    if name != "sqlite" or path.startswith(":memory:"):
        return
    file = Path(path.partition("?")[0])
    try:
        with file.open("ab"):
            pass
    except OSError as error:
        raise DatabaseUnusable(str(file), error_reason(error)) from error


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """Raise DatabaseUnusable where the server cannot be reached or does not take the user."""
    try:
        yield
    except (DBConnectionError, OSError, PostgresError) as error:
        parts = urlsplit(url)
        raise DatabaseUnusable(
            f"{parts.path.strip('/')} at {parts.hostname}:{parts.port or 5432}", error_reason(error)
        ) from error


def trace_statements(spans: Spans) -> None:
    """From now on each statement that PostgreSQL is sent is a span."""
    from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor  # here: loaded only where it is wanted

    AsyncPGInstrumentor().instrument(tracer_provider=spans.provider)  # type: ignore[no-untyped-call]


def database_check(url: str) -> Callable[[], Awaitable[object]]:
    """What raises where it does not."""
    name = url.partition(":")[0]
    return lambda: Tortoise.get_connection(name).execute_query("SELECT 1")
