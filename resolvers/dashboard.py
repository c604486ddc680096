"""The dashboard: profile, tenant, recent files and active operations, each from its own source with a deadline."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import TypeVar
from uuid import uuid4

import structlog
from pydantic import TypeAdapter

from contracts.auth import Session
from contracts.base import utc_now
from contracts.callers import Caller
from contracts.errors import DeadlineExceeded, DomainError, ServiceUnavailable, TenantNotFound, UserNotFound
from contracts.files import File, FilePageRequest
from contracts.operations import Operation
from contracts.tenants import Tenant
from contracts.users import User
from infrastructure.caching.batching import DataLoader
from infrastructure.caching.single_flight import Once
from infrastructure.caching.tagged_cache import CachedValue, TaggedCache
from infrastructure.deadlines import deadline
from infrastructure.tasks import run_concurrently
from resolvers.clients.files import FilesClient
from resolvers.clients.tenants import TenantsClient
from resolvers.clients.users import UsersClient
from resolvers.error_translation import domain_error
from resolvers.following.observer import tenant_tag, user_tag
from resolvers.loaders import Loaders
from resolvers.operations.records import OperationRecords

SOURCE_TIMEOUT_SECONDS = 1.0
"""Deadline of each source; a source that exceeds it makes only its own field null."""
MAX_RECENT_FILES = 10

_USERS = TypeAdapter(CachedValue[tuple[User, ...]])
_TENANTS = TypeAdapter(CachedValue[tuple[Tenant, ...]])
_FILES = TypeAdapter(CachedValue[tuple[File, ...]])

USERS, TENANTS, FILES, OPERATIONS = "users", "tenants", "files", "operations"

Entity = TypeVar("Entity", User, Tenant)
Value = TypeVar("Value")

log = structlog.get_logger()


@dataclass(frozen=True)
class DashboardDependencies:
    """The sources of dashboards, shared by all dashboards of a process."""

    cache: TaggedCache
    records: OperationRecords
    users: UsersClient
    tenants: TenantsClient
    files: FilesClient
    timeout_seconds: float = SOURCE_TIMEOUT_SECONDS


class DashboardResolver:
    """Reads the dashboard of one user in the current tenant, for one execution.

    Each method raises ServiceUnavailable if its source is unavailable, and DeadlineExceeded after
    ``DashboardDependencies.timeout_seconds``. The users and tenants to which a part refers are loaded before the part
    is returned, within the same deadline. If that fails, their data loaders raise the error.
    """

    def __init__(self, sources: DashboardDependencies, session: Session, caller: Caller, loaders: Loaders) -> None:
        self._sources = sources
        self._session = session
        self._caller = caller
        self._loaders = loaders
        tags = user_tag(session.user_id), tenant_tag(session.tenant_id)
        self._version = Once(lambda: self._version_of(*tags))

    async def profile(self) -> User:
        """Return the user. Raises UserNotFound."""
        async with _source_deadline(self._sources.timeout_seconds, USERS):
            found = await self._cached_users((self._session.user_id,))
        if not found:
            raise UserNotFound()
        return found[0]

    async def tenant(self) -> Tenant:
        """Return the current tenant. Raises TenantNotFound."""
        async with _source_deadline(self._sources.timeout_seconds, TENANTS):
            found = await self._cached_tenants((self._session.tenant_id,))
        if not found:
            raise TenantNotFound()
        return found[0]

    async def recent_files(self) -> list[File]:
        """Return the newest files that the user may see in the current tenant, newest first."""
        deadline_at = self._deadline_at()
        async with _source_deadline(self._sources.timeout_seconds, FILES):
            files = await self._cached_files()
        await self._prime_loaders(deadline_at, users={file.owner_id for file in files}, tenants=set())
        return list(files)

    async def active_operations(self) -> list[Operation]:
        """Return the operations that the user started and that have not closed, newest first."""
        deadline_at = self._deadline_at()
        async with _source_deadline(self._sources.timeout_seconds, OPERATIONS):
            operations = await self._sources.records.active(self._session)
        await self._prime_loaders(deadline_at, users=set(_users_in(operations)), tenants=set(_tenants_in(operations)))
        return operations

    async def last_updated(self) -> datetime:
        """Return the time at which the oldest cached part was fetched; the current time if no part is cached."""
        times = await run_concurrently(
            self._fetched_at(await self._key(USERS, (self._session.user_id,)), _USERS),
            self._fetched_at(await self._key(TENANTS, (self._session.tenant_id,)), _TENANTS),
            self._fetched_at(await self._key(FILES), _FILES),
        )
        return min((time for time in times if time is not None), default=utc_now())

    async def _fetched_at(self, key: str, kind: TypeAdapter[CachedValue[Value]]) -> datetime | None:
        cached = await self._sources.cache.get(key, kind)
        return None if cached is None else cached.fetched_at

    async def _cached_users(self, ids: Collection[str]) -> tuple[User, ...]:
        key = await self._key(USERS, ids)
        cached = await self._sources.cache.get_or_load(
            key, _USERS, lambda: self._sources.users.get_users(self._caller, list(ids))
        )
        return cached.value

    async def _cached_tenants(self, ids: Collection[str]) -> tuple[Tenant, ...]:
        key = await self._key(TENANTS, ids)
        cached = await self._sources.cache.get_or_load(
            key, _TENANTS, lambda: self._sources.tenants.get_tenants(self._caller, list(ids))
        )
        return cached.value

    async def _cached_files(self) -> tuple[File, ...]:
        async def fetch() -> tuple[File, ...]:
            return (await self._sources.files.list_files(self._caller, FilePageRequest(first=MAX_RECENT_FILES))).files

        cached = await self._sources.cache.get_or_load(await self._key(FILES), _FILES, fetch)
        return cached.value

    async def _version_of(self, *tags: str) -> str:
        """Return the version of the tags; a random version if it is unavailable, so that no cached value is found."""
        return await self._sources.cache.version(*tags) or uuid4().hex

    async def _key(self, source: str, ids: Iterable[str] = ()) -> str:
        """Return the cache key of a source for this session; it changes with permissions and with each data change."""
        user_id, tenant_id = self._session.user_id, self._session.tenant_id
        version = await self._version.result()
        digest = sha256(json.dumps([self._session.permissions, sorted(ids)]).encode()).hexdigest()[:32]
        return f"cache:dashboard:{source}:{user_id}:{tenant_id}:{version}:{digest}"

    async def _prime_loaders(self, deadline_at: float, *, users: set[str], tenants: set[str]) -> None:
        """Load users and tenants into the data loaders, or the error if they cannot be loaded before the deadline."""
        seconds = max(self._sources.timeout_seconds / 4, deadline_at - asyncio.get_running_loop().time())
        await run_concurrently(
            _prime(self._loaders.user, users, seconds, USERS, self._cached_users),
            _prime(self._loaders.tenant, tenants, seconds, TENANTS, self._cached_tenants),
        )

    def _deadline_at(self) -> float:
        return asyncio.get_running_loop().time() + self._sources.timeout_seconds


async def _prime(
    loader: DataLoader[Entity],
    ids: set[str],
    seconds: float,
    service: str,
    find: Callable[[Collection[str]], Awaitable[tuple[Entity, ...]]],
) -> None:
    """Store the entities with these ids, or the error of ``find``, in the loader."""
    if not ids:
        return
    try:
        async with _source_deadline(seconds, service):
            found = {entity.id: entity for entity in await find(ids)}
    except DomainError as error:
        loader.prime(dict.fromkeys(ids, error))
    else:
        loader.prime({id: found.get(id) for id in ids})


@asynccontextmanager
async def _source_deadline(seconds: float, service: str) -> AsyncIterator[None]:
    """Run the block with a deadline, and raise each unexpected error as ServiceUnavailable of the service."""
    try:
        async with deadline(seconds):
            yield
    except DomainError:
        raise
    except TimeoutError as error:
        raise DeadlineExceeded(service=service) from error
    except Exception as error:
        translated = domain_error(error)
        if isinstance(translated, ServiceUnavailable | DeadlineExceeded):
            raise translated from error
        log.error("dashboard_source_failed", service=service, exc_info=error)
        raise ServiceUnavailable(service=service) from error


def _users_in(operations: Iterable[Operation]) -> Iterator[str]:
    for operation in operations:
        if operation.state.started_by:
            yield operation.state.started_by


def _tenants_in(operations: Iterable[Operation]) -> Iterator[str]:
    for operation in operations:
        yield from operation.tenant_ids
        if operation.state.switch is not None:
            yield from (operation.state.switch.from_tenant_id, operation.state.switch.to_tenant_id)
