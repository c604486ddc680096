"""The database of a worker process: one Tortoise app and one line of migrations for each domain, on one connection."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from tortoise import Tortoise
from tortoise.config import AppConfig, DBUrlConfig, TortoiseConfig
from tortoise.context import TortoiseContext
from tortoise.migrations import api

if TYPE_CHECKING:
    from contracts.spans import Spans

DOMAINS = ("auth", "users", "tenants", "files", "workspaces", "notifications")
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
    context = TortoiseContext()
    with context:  # while it is set up; whoever opened the database needs no context of their own afterwards
        await context.init(configuration(url), _enable_global_fallback=True)
    try:
        yield
    finally:
        await context.close_connections()


async def migrate(url: str) -> None:
    """Bring every domain's tables to the newest state; harmless where they are."""
    async with TortoiseContext():
        await api.migrate(config=configuration(url))


def trace_statements(spans: Spans) -> None:
    """From now on each statement that PostgreSQL is sent is a span."""
    from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor  # here: loaded only where it is wanted

    AsyncPGInstrumentor().instrument(tracer_provider=spans.provider)  # type: ignore[no-untyped-call]


def database_answers(url: str) -> Callable[[], Awaitable[object]]:
    """What raises where it does not."""
    name = url.partition(":")[0]
    return lambda: Tortoise.get_connection(name).execute_query("SELECT 1")
