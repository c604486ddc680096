"""The database of a worker process. Each domain is a Tortoise app with migrations; all share one connection."""

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

from infrastructure.startup_errors import DatabaseUnusable, error_reason

if TYPE_CHECKING:
    from infrastructure.observability.spans import Spans

DOMAINS = ("auth", "users", "tenants", "files", "workspaces", "notifications", "operations")
"""The domains that have tables, which are prefixed with the domain's name."""


def configuration(url: str) -> TortoiseConfig:
    """Return the configuration of Tortoise for the URL ``sqlite://FILE`` or ``postgres://...``."""
    # Tortoise caches statements by the name of the connection in the whole process: each dialect needs its own name.
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
    """Open the database for all code of the process while the block runs. A process has at most one open database.

    Requests and activities do not inherit the context of their creator, so Tortoise finds it by its global fallback.

    Raises:
        DatabaseUnusable: the database cannot be opened.
    """
    _check_sqlite_file(url)
    context = TortoiseContext()
    with _translate_errors(url), context:  # needed for the initialization only
        await context.init(configuration(url), _enable_global_fallback=True)
    try:
        yield
    finally:
        await context.close_connections()


async def migrate(url: str) -> None:
    """Apply the missing migrations of every domain.

    Raises:
        DatabaseUnusable: the database cannot be opened.
    """
    _check_sqlite_file(url)
    with _translate_errors(url):
        async with TortoiseContext():
            await api.migrate(config=configuration(url))


def _check_sqlite_file(url: str) -> None:
    """Raise DatabaseUnusable if the file of SQLite cannot be opened: its driver would wait forever."""
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
def _translate_errors(url: str) -> Iterator[None]:
    """Raise DatabaseUnusable if the server cannot be reached or rejects the user."""
    try:
        yield
    except (DBConnectionError, OSError, PostgresError) as error:
        parts = urlsplit(url)
        raise DatabaseUnusable(
            f"{parts.path.strip('/')} at {parts.hostname}:{parts.port or 5432}", error_reason(error)
        ) from error


def trace_statements(spans: Spans) -> None:
    """Record a span for each SQL statement that is sent to PostgreSQL from now on."""
    from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor  # only processes that trace load it

    AsyncPGInstrumentor().instrument(tracer_provider=spans.provider)  # type: ignore[no-untyped-call]


def database_check(url: str) -> Callable[[], Awaitable[object]]:
    """Return a readiness check that raises if the open database does not answer."""
    name = url.partition(":")[0]
    return lambda: Tortoise.get_connection(name).execute_query("SELECT 1")
