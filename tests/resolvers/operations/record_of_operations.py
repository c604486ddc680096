"""The record of operations for tests: the service on SQLite behind its endpoints, gateway replicas, and a worker."""

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
from resolvers.operations.lifecycle import OperationLifecycle
from resolvers.operations.records import OperationRecords
from tests.databases import create_sqlite_database
from tests.resolvers.scripted import TENANT, Script, ScriptStarter, scripts
from worker.database import database
from worker.http import services_app
from worker.progress_notifier import ProgressNotifier
from worker.state_recording import StateRecorder

SIGNER = ServiceTokenSigner("operations", SecretKeys(b"a key of thirty-two bytes, or so."))


class Record:
    """The workflow service; while ``is_down`` is set it refuses connections."""

    def __init__(self) -> None:
        self.service = OperationsService()
        self.is_down = False
        app = services_app(endpoints.routes(self.service, SIGNER))
        self._transport = _FailableTransport(self, httpx.ASGITransport(app, raise_app_exceptions=False))

    def client(self) -> OperationsClient:
        """Return a client of the service, as a gateway has it."""
        http = httpx.AsyncClient(transport=self._transport)
        return OperationsClient(
            ServiceClient("operations", "http://record", http, SIGNER, CircuitBreaker("operations"))
        )

    async def ids(self, viewer: Session) -> list[str]:
        """Return the ids of the viewer's operations, newest first."""
        return [operation.id for operation in await self.operations(viewer)]

    async def operations(self, viewer: Session) -> list[Operation]:
        """Return the recorded operations of the viewer, newest first."""
        page = await self.service.list_operations(caller(viewer), RecordPageRequest(first=100))
        return [record.operation for record in page.records]

    async def operation(self, operation_id: str) -> Operation | None:
        """Return the recorded operation; None if it is not recorded."""
        found = await self.service.look_up([operation_id])
        return found.records[0].operation if found.records else None


class _FailableTransport(httpx.AsyncBaseTransport):
    """Transport that refuses connections while the record is down."""

    def __init__(self, record: Record, inner: httpx.ASGITransport) -> None:
        self._record = record
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._record.is_down:
            raise httpx.ConnectError("refused")
        return await self._inner.handle_async_request(request)


@asynccontextmanager
async def running_record(folder: Path) -> AsyncIterator[Record]:
    """Run the service on an empty database of its own."""
    async with database(await create_sqlite_database(folder)):
        yield Record()


def viewer(user_id: str | None = None) -> Session:
    """Return a session of this user, by default of a new user."""
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
    """Return the principal of the session."""
    return Caller(user_id=viewer.user_id, tenant_id=viewer.tenant_id, permissions=viewer.permissions)


async def _ignore(_operation: Operation) -> None:
    pass


class Replica:
    """The parts of one gateway process that read, write and follow operations."""

    def __init__(
        self,
        client: Client,
        record: Record,
        redis: RedisPolicy | None = None,
        *,
        list_interval_seconds: float = 60,
        check_interval_seconds: float = 60,
        max_long_polls: int = 0,
        on_closed: Callable[[Operation], Awaitable[None]] = _ignore,
    ) -> None:
        cursors = Cursors(SecretKeys(b"secret"))
        self._client = client
        self.change_notifier = LocalNotifier() if redis is None else RedisNotifier(redis)
        long_poll_quota = LongPollQuota(max_long_polls=max_long_polls, check_interval_seconds=check_interval_seconds)
        self.hub = ProgressHub(
            client, long_poll_quota=long_poll_quota, change_notifier=self.change_notifier, linger_seconds=0
        )
        self.records = OperationRecords(record.client(), self.hub, cursors, on_closed)
        self.feeds = FeedRegistry(
            self.hub, self.records, self.change_notifier, list_interval_seconds=list_interval_seconds
        )
        self.operations = OperationLifecycle(
            client, self.hub, self.records, self.change_notifier, cursors, DescribeQuota()
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Replica]:
        """Run all parts while the block runs."""
        async with AsyncExitStack() as stack:
            if isinstance(self.change_notifier, RedisNotifier):
                await stack.enter_async_context(self.change_notifier.listening())
            await stack.enter_async_context(self.hub)
            await stack.enter_async_context(self.records.running())
            await stack.enter_async_context(self.feeds)
            await stack.enter_async_context(self.operations)
            yield self

    async def write(self, operation_id: str) -> Operation:
        """Write the operation to the record, as a start does."""
        description = await self._client.get_workflow_handle(operation_id).describe()
        operation = await to_operation(description, self._client)
        self.records.add(operation)
        await self.records.wait_while_pending(operation_id)
        return operation

    async def start(self, starter: ScriptStarter, viewer: Session) -> str:
        """Start an operation, write it to the record, and notify feeds, as the gateway does."""
        script = await starter.start(user_id=viewer.user_id, with_kind=True)
        await self.write(script.id)
        await self.change_notifier.notify(viewer.user_id)
        return script.id


@asynccontextmanager
async def recording_worker(
    client: Client, record: Record, change_notifier: ChangeNotifier | None = None, repair: RecordRepair | None = None
) -> AsyncIterator[ScriptStarter]:
    """Run a worker for scripted operations that writes the record; it repairs only the operations that it publishes."""
    repair = repair or RecordRepair(client, record.service)
    buffer = RecordBuffer(record.service.write)
    recorder = StateRecorder(buffer, repair)
    progress_notifier = ProgressNotifier(
        change_notifier or LocalNotifier(), lambda _info, _outcome: None, [recorder.record]
    )
    async with (
        buffer.running(),
        supervised(repair.run_checks, name="check the record"),
        progress_notifier.running(),
        scripts(client, interceptors=[progress_notifier]) as starter,
    ):
        yield starter


async def end(client: Client, operation_id: str) -> None:
    """Complete the scripted operation."""
    await client.get_workflow_handle(operation_id).signal("command", "end")


async def end_all(*started: Script) -> None:
    """Complete the scripted operations."""
    for script in started:
        await script.end()


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 15) -> None:
    """Wait until the condition holds."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - the condition sends no event
            await asyncio.sleep(0.05)


def with_state(operation: Operation, **changes: object) -> OperationRecord:
    """Return a record of the operation whose state has these changes."""
    state = operation.state.model_copy(update=changes)
    position = operation.position.model_copy(update={"revision": state.revision, "closed": state.status.is_closed})
    closed_at = utc_now() if state.status.is_closed else None
    return OperationRecord(
        operation=operation.model_copy(update={"state": state, "position": position, "closed_at": closed_at})
    )
