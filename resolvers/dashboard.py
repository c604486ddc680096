"""The dashboard: who one is, where, and what goes on there, each part from its own source and on its own time."""

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
from contracts.errors import DeadlineExceeded, DomainError, ServiceUnavailable, TenantNotFound, UserNotFound
from contracts.files import File, FilePageRequest
from contracts.operations import Operation
from contracts.service_tokens import Caller
from contracts.tenants import Tenant
from contracts.users import User
from infrastructure.caching.batching import DataLoader
from infrastructure.caching.single_flight import Once
from infrastructure.caching.tagged_cache import CachedValue, TaggedCache
from infrastructure.deadlines import deadline
from infrastructure.tasks import concurrently
from resolvers.clients.files import FilesClient
from resolvers.clients.tenants import TenantsClient
from resolvers.clients.users import UsersClient
from resolvers.error_translation import domain_error
from resolvers.following.observer import tenant_tag, user_tag
from resolvers.loaders import Loaders
from resolvers.operations.records import OperationRecords

SOURCE_SECONDS = 1.0
"""How long one source may take before its own field is given up."""
RECENT_FILES = 10

_USERS = TypeAdapter(CachedValue[tuple[User, ...]])
_TENANTS = TypeAdapter(CachedValue[tuple[Tenant, ...]])
_FILES = TypeAdapter(CachedValue[tuple[File, ...]])

USERS, TENANTS, FILES, OPERATIONS = "users", "tenants", "files", "operations"

Known = TypeVar("Known", User, Tenant)
Value = TypeVar("Value")

log = structlog.get_logger()


@dataclass(frozen=True)
class DashboardDependencies:
    """Where dashboards come from; one a process."""

    cache: TaggedCache
    records: OperationRecords
    users: UsersClient
    tenants: TenantsClient
    files: FilesClient
    seconds: float = SOURCE_SECONDS


class Dashboard:
    """The dashboard of one user in their current tenant, for one execution.

    Each part raises the error of its own source: ServiceUnavailable, or DeadlineExceeded after
    ``DashboardDependencies.seconds``. The users and tenants that a part refers to are loaded together with it, within
    the same time; the loader keeps the error of those that could not be loaded.
    """

    def __init__(self, sources: DashboardDependencies, session: Session, caller: Caller, loaders: Loaders) -> None:
        self._sources = sources
        self._session = session
        self._caller = caller
        self._loaders = loaders
        tags = user_tag(session.user_id), tenant_tag(session.tenant_id)
        self._version = Once(lambda: self._version_of(*tags))

    async def profile(self) -> User:
        async with _in_time(self._sources.seconds, USERS):
            found = await self._users((self._session.user_id,))
        if not found:
            raise UserNotFound()
        return found[0]

    async def tenant(self) -> Tenant:
        async with _in_time(self._sources.seconds, TENANTS):
            found = await self._tenants((self._session.tenant_id,))
        if not found:
            raise TenantNotFound()
        return found[0]

    async def recent_files(self) -> list[File]:
        """The newest that they see in the tenant, newest first."""
        until = self._until()
        async with _in_time(self._sources.seconds, FILES):
            files = await self._files()
        await self._acquaint(until, users={file.owner_id for file in files}, tenants=set())
        return list(files)

    async def active_operations(self) -> list[Operation]:
        """Those that they started and that have not closed, newest first."""
        until = self._until()
        async with _in_time(self._sources.seconds, OPERATIONS):
            operations = await self._sources.records.active(self._session)
        await self._acquaint(until, users=set(_users_in(operations)), tenants=set(_tenants_in(operations)))
        return operations

    async def last_updated(self) -> datetime:
        """When the oldest of what is shown was fetched."""
        moments = await concurrently(
            self._fetched_at(await self._key(USERS, (self._session.user_id,)), _USERS),
            self._fetched_at(await self._key(TENANTS, (self._session.tenant_id,)), _TENANTS),
            self._fetched_at(await self._key(FILES), _FILES),
        )
        return min((moment for moment in moments if moment is not None), default=utc_now())

    async def _fetched_at(self, key: str, kind: TypeAdapter[CachedValue[Value]]) -> datetime | None:
        copy = await self._sources.cache.get(key, kind)
        return None if copy is None else copy.fetched_at

    async def _users(self, ids: Collection[str]) -> tuple[User, ...]:
        key = await self._key(USERS, ids)
        copy = await self._sources.cache.get_or_load(
            key, _USERS, lambda: self._sources.users.users(self._caller, list(ids))
        )
        return copy.value

    async def _tenants(self, ids: Collection[str]) -> tuple[Tenant, ...]:
        key = await self._key(TENANTS, ids)
        copy = await self._sources.cache.get_or_load(
            key, _TENANTS, lambda: self._sources.tenants.tenants(self._caller, list(ids))
        )
        return copy.value

    async def _files(self) -> tuple[File, ...]:
        async def fetch() -> tuple[File, ...]:
            return (await self._sources.files.page(self._caller, FilePageRequest(first=RECENT_FILES))).files

        copy = await self._sources.cache.get_or_load(await self._key(FILES), _FILES, fetch)
        return copy.value

    async def _version_of(self, *tags: str) -> str:
        """Return the version of the tags; while it is unknown, one of this execution, so that no copy is found."""
        return await self._sources.cache.version(*tags) or uuid4().hex

    async def _key(self, source: str, ids: Iterable[str] = ()) -> str:
        """Of a copy that only who may see the same finds, and nobody after a change of what it shows."""
        user_id, tenant_id = self._session.user_id, self._session.tenant_id
        version = await self._version.result()
        what = sha256(json.dumps([self._session.permissions, sorted(ids)]).encode()).hexdigest()[:32]
        return f"dashboard:{source}:{user_id}:{tenant_id}:{version}:{what}"

    async def _acquaint(self, until: float, *, users: set[str], tenants: set[str]) -> None:
        """Have the users and tenants ready, or the word that they are not to be had in time."""
        seconds = max(self._sources.seconds / 4, until - asyncio.get_running_loop().time())
        await concurrently(
            _introduce(self._loaders.user, users, seconds, USERS, self._users),
            _introduce(self._loaders.tenant, tenants, seconds, TENANTS, self._tenants),
        )

    def _until(self) -> float:
        return asyncio.get_running_loop().time() + self._sources.seconds


async def _introduce(
    loader: DataLoader[Known],
    ids: set[str],
    seconds: float,
    service: str,
    find: Callable[[Collection[str]], Awaitable[tuple[Known, ...]]],
) -> None:
    if not ids:
        return
    try:
        async with _in_time(seconds, service):
            found = {each.id: each for each in await find(ids)}
    except DomainError as error:
        loader.prime(dict.fromkeys(ids, error))
    else:
        loader.prime({id: found.get(id) for id in ids})


@asynccontextmanager
async def _in_time(seconds: float, service: str) -> AsyncIterator[None]:
    """Whatever befalls the source that the block asks becomes an answer about that source."""
    try:
        async with deadline(seconds):
            yield
    except DomainError:
        raise
    except TimeoutError as error:
        raise DeadlineExceeded(service=service) from error
    except Exception as error:
        answer = domain_error(error)
        if isinstance(answer, ServiceUnavailable | DeadlineExceeded):
            raise answer from error
        log.error("a source of the dashboard is in trouble", service=service, exc_info=error)
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
