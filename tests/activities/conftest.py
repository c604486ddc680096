"""What the services are tested on: real, migrated, empty databases in SQLite and PostgreSQL, and a clock to move."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from activities.auth.credentials import CredentialsService
from activities.auth.sessions import SessionsService
from activities.tenants.models import Membership
from activities.tenants.service import TenantsService
from contracts.auth import Role
from infrastructure.change_notifications import LocalNotifier
from infrastructure.passwords import Passwords
from tests.databases import create_sqlite_database
from tests.servers import Postgres
from worker.database import database, migrate


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, time: timedelta) -> None:
        self.now += time


async def join(user_id: str, tenant_id: str, role: Role) -> None:
    """Make the user a member in this role, or give the member this role."""
    await Membership.update_or_create({"role": role}, user_id=user_id, tenant_id=tenant_id)


class RecordingRevocationPublisher:
    """Keeps the published revocations."""

    def __init__(self) -> None:
        self.published: set[str] = set()

    async def publish(self, token_hash: str) -> None:
        self.published.add(token_hash)

    async def retract(self, token_hash: str) -> None:
        self.published.discard(token_hash)


@pytest.fixture(scope="session")
def shared_postgres_url(postgres: Postgres) -> str:
    """One database for all of these tests: to empty it takes a tenth of the time that making one takes."""
    return postgres.new_database()


@asynccontextmanager
async def empty_postgres(url: str) -> AsyncIterator[str]:
    """Migrated, and emptied afterwards."""
    connection = await asyncpg.connect(url)
    try:
        if not await _tables(connection):
            await migrate(url)
        yield url
        await connection.execute(f"TRUNCATE {', '.join(await _tables(connection))}")
    finally:
        await connection.close()


async def _tables(connection: asyncpg.Connection[asyncpg.Record]) -> list[str]:
    rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return [f'"{row["tablename"]}"' for row in rows if row["tablename"] != "tortoise_migrations"]


@pytest.fixture(params=["sqlite", "postgres"])
async def any_database(request: pytest.FixtureRequest, tmp_path: Path, shared_postgres_url: str) -> AsyncIterator[None]:
    """An open database, once of each kind."""
    if request.param == "sqlite":
        async with database(await create_sqlite_database(tmp_path)):
            yield
    else:
        async with empty_postgres(shared_postgres_url) as url, database(url):
            yield


@pytest.fixture
async def postgres_database(shared_postgres_url: str) -> AsyncIterator[None]:
    async with empty_postgres(shared_postgres_url) as url, database(f"{url}?maxsize=20"):
        yield


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def revocations() -> RecordingRevocationPublisher:
    return RecordingRevocationPublisher()


@pytest.fixture(scope="session")
def passwords() -> Iterator[Passwords]:
    passwords = Passwords()
    yield passwords
    passwords.close()


@pytest.fixture
def sessions_service(any_database: None, revocations: RecordingRevocationPublisher, clock: Clock) -> SessionsService:
    return SessionsService(revocations, clock, memberships=TenantsService(LocalNotifier()))


@pytest.fixture
def credentials_service(
    any_database: None, passwords: Passwords, revocations: RecordingRevocationPublisher, clock: Clock
) -> CredentialsService:
    return CredentialsService(passwords, revocations, clock)
