"""The record of operations on real parts: the service on SQLite behind its endpoints, and what writes and reads it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import httpx
from temporalio.client import Client

from activities.operations import endpoints
from activities.operations.record_repair import RecordRepair
from activities.operations.service import OperationsService
from contracts.auth import Role, Session
from contracts.base import new_id, utc_now
from contracts.callers import Caller
from contracts.operation_records import OperationRecord, RecordPageRequest
from contracts.operations import Operation
from infrastructure.change_notifications import ChangeNotifier, LocalNotifier, RedisNotifier
from infrastructure.circuit_breaker import CircuitBreaker
from infrastructure.record_buffer import RecordBuffer
from infrastructure.redis_policy import RedisPolicy
from infrastructure.signing.secret_keys import SecretKeys
from infrastructure.signing.service_tokens import ServiceTokenSigner
from infrastructure.tasks import supervised
from infrastructure.temporal.operation_history import to_operation
from resolvers.clients.base import ServiceClient
from resolvers.clients.operations import OperationsClient
from resolvers.following.feed import FeedRegistry
from resolvers.following.hub import ProgressHub
from resolvers.following.long_poll_quota import LongPollQuota
from resolvers.operations.cursors import Cursors
from resolvers.operations.describe_quota import DescribeQuota
from resolvers.operations.operations import Operations
from resolvers.operations.records import OperationRecords
from tests.databases import create_sqlite_database
from tests.resolvers.scripted import TENANT, Script, ScriptStarter, scripts
from worker.database import database
from worker.http import services_app
from worker.progress_notifier import ProgressNotifier
from worker.state_recording import StateRecorder

SIGNER = ServiceTokenSigner("operations", SecretKeys(b"a key of thirty-two bytes, or so."))


class Record:
    """The workflow service. ``is_down``: it accepts no connections."""

    def __init__(self) -> None:
        self.service = OperationsService()
        self.is_down = False
        app = services_app(endpoints.routes(self.service, SIGNER))
        self._transport = _Connection(self, httpx.ASGITransport(app, raise_app_exceptions=False))

    def client(self) -> OperationsClient:
        """As a gateway has it, with a connection of its own."""
        http = httpx.AsyncClient(transport=self._transport)
        return OperationsClient(
            ServiceClient("operations", "http://record", http, SIGNER, CircuitBreaker("operations"))
        )

    async def ids(self, viewer: Session) -> list[str]:
        """The ids of the viewer's operations, newest first."""
        return [operation.id for operation in await self.operations(viewer)]

    async def operations(self, viewer: Session) -> list[Operation]:
        page = await self.service.list_operations(caller(viewer), RecordPageRequest(first=100))
        return [record.operation for record in page.records]

    async def operation(self, operation_id: str) -> Operation | None:
        found = await self.service.look_up([operation_id])
        return found.records[0].operation if found.records else None


class _Connection(httpx.AsyncBaseTransport):
    def __init__(self, record: Record, inner: httpx.ASGITransport) -> None:
        self._record = record
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._record.is_down:
            raise httpx.ConnectError("refused")
        return await self._inner.handle_async_request(request)


@asynccontextmanager
async def running_record(folder: Path) -> AsyncIterator[Record]:
    """The service on an empty database of its own."""
    async with database(await create_sqlite_database(folder)):
        yield Record()


def viewer(user_id: str | None = None) -> Session:
    return Session(
        id=new_id("ses"),
        user_id=user_id or new_id("usr"),
        tenant_id=TENANT,
        role=Role.MEMBER,
        permissions=(),
        created_at=utc_now(),
        expires_at=utc_now() + timedelta(hours=1),
    )


def caller(viewer: Session) -> Caller:
    return Caller(user_id=viewer.user_id, tenant_id=viewer.tenant_id, permissions=viewer.permissions)


async def _ignore(_operation: Operation) -> None:
    pass


class Replica:
    """What one gateway process has."""

    def __init__(
        self,
        client: Client,
        record: Record,
        redis: RedisPolicy | None = None,
        *,
        look_seconds: float = 60,
        check_seconds: float = 60,
        max_long_polls: int = 0,
        closed: Callable[[Operation], Awaitable[None]] = _ignore,
    ) -> None:
        cursors = Cursors(SecretKeys(b"secret"))
        self._client = client
        self.change_notifier = LocalNotifier() if redis is None else RedisNotifier(redis)
        budget = LongPollQuota(max_long_polls=max_long_polls, check_seconds=check_seconds)
        self.hub = ProgressHub(client, budget=budget, change_notifier=self.change_notifier, linger_seconds=0)
        self.records = OperationRecords(record.client(), self.hub, cursors, closed)
        self.feeds = FeedRegistry(self.hub, self.records, self.change_notifier, look_seconds=look_seconds)
        self.operations = Operations(client, self.hub, self.records, self.change_notifier, cursors, DescribeQuota())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Replica]:
        async with AsyncExitStack() as stack:
            if isinstance(self.change_notifier, RedisNotifier):
                await stack.enter_async_context(self.change_notifier.listening())
            await stack.enter_async_context(self.hub)
            await stack.enter_async_context(self.records.running())
            await stack.enter_async_context(self.feeds)
            await stack.enter_async_context(self.operations)
            yield self

    async def write(self, operation_id: str) -> Operation:
        """Have the operation written to the record, as a start does."""
        description = await self._client.get_workflow_handle(operation_id).describe()
        operation = await to_operation(description, self._client)
        self.records.add(operation)
        await self.records.wait_while_pending(operation_id)
        return operation

    async def start(self, starter: ScriptStarter, who: Session) -> str:
        """Start an operation and notify of it, as a start does."""
        script = await starter.start(user_id=who.user_id, with_kind=True)
        await self.write(script.id)
        await self.change_notifier.notify(who.user_id)
        return script.id


@asynccontextmanager
async def recording_worker(
    client: Client, record: Record, change_notifier: ChangeNotifier | None = None, repair: RecordRepair | None = None
) -> AsyncIterator[ScriptStarter]:
    """A worker for scripted operations that writes the record as ours do; it repairs only what its states lead to."""
    repair = repair or RecordRepair(client, record.service)
    buffer = RecordBuffer(record.service.write)
    recorder = StateRecorder(buffer, repair)
    notifier = ProgressNotifier(change_notifier or LocalNotifier(), lambda _info, _outcome: None, [recorder.record])
    async with (
        buffer.running(),
        supervised(repair.run_checks, name="check the record"),
        notifier.running(),
        scripts(client, interceptors=[notifier]) as starter,
    ):
        yield starter


async def end(client: Client, operation_id: str) -> None:
    await client.get_workflow_handle(operation_id).signal("order", "end")


async def end_all(*started: Script) -> None:
    for script in started:
        await script.end()


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - a test looks from outside
            await asyncio.sleep(0.05)


def with_state(operation: Operation, **changes: object) -> OperationRecord:
    """A record of the operation whose state has the changes."""
    state = operation.state.model_copy(update=changes)
    position = operation.position.model_copy(update={"revision": state.revision, "closed": state.status.is_closed})
    closed_at = utc_now() if state.status.is_closed else None
    return OperationRecord(
        operation=operation.model_copy(update={"state": state, "position": position, "closed_at": closed_at})
    )
