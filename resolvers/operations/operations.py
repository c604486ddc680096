"""Operations as clients use them: start, get, follow, list, cancel, and what each was started with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from types import MappingProxyType, TracebackType
from typing import NamedTuple, Self
from uuid import uuid4

import structlog
from pydantic import JsonValue
from temporalio.client import Client, WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from contracts.auth import Session
from contracts.errors import (
    DeadlineExceeded,
    DomainError,
    LoginNotWaiting,
    OperationNotFound,
    OperationNotRetryable,
    ServiceUnavailable,
)
from contracts.operation_records import RecordFilter
from contracts.operations import Operation, OperationKind, OperationStatus, kind_of
from infrastructure.change_notifications import ChangeNotifier
from infrastructure.limits.fair_semaphore import Requester
from infrastructure.tasks import BackgroundTasks, run_concurrently
from infrastructure.temporal.operation_history import to_operation
from infrastructure.temporal.repair_status import with_repair
from resolvers.error_translation import TEMPORAL, domain_error
from resolvers.following.feed import FeedRegistry
from resolvers.following.hub import ProgressHub
from resolvers.following.watcher import Delivery
from resolvers.operations.access import OperationAccess
from resolvers.operations.cursors import Cursors
from resolvers.operations.describe_quota import DescribeQuota
from resolvers.operations.records import OperationRecords
from resolvers.operations.start import RPC_SECONDS, Command, Result, StartRequest, Workflow, WorkflowStarter
from workflows.log_in import LogIn

log = structlog.get_logger(__name__)


class StartedOperation(NamedTuple):
    """An operation as the payload of a mutation shows it."""

    operation: Operation


class Recorded(NamedTuple):
    """What the record has of some operations. ``is_unknown``: it did not answer."""

    operations: Mapping[str, Operation] = MappingProxyType({})
    deleted: frozenset[str] = frozenset()
    is_unknown: bool = False

    def joined(self, operation_id: str, found: Operation | Exception) -> Operation | Exception:
        """What Temporal has, or else the record: Temporal does not retain an operation for as long."""
        if operation_id in self.deleted:
            return OperationNotFound()
        if not isinstance(found, OperationNotFound) or kind_of(operation_id) is None:
            return found
        return ServiceUnavailable(service="operations") if self.is_unknown else self.operations.get(operation_id, found)


UNKNOWN = Recorded(is_unknown=True)
DELETION_CHECK_SECONDS = 0.5
"""How long an operation that Temporal has waits for the record to say that it was deleted."""


class Operations:
    """One a process. Closing it ends the feeds."""

    def __init__(
        self,
        client: Client,
        hub: ProgressHub,
        records: OperationRecords,
        change_notifier: ChangeNotifier,
        cursors: Cursors,
        describe_quota: DescribeQuota,
    ) -> None:
        self._client = client
        self._describe_quota = describe_quota
        self._hub = hub
        self._records = records
        self._starter = WorkflowStarter(client)
        self._change_notifier = change_notifier
        self._cursors = cursors
        self._feeds = FeedRegistry(hub, records, change_notifier)
        self._tasks = BackgroundTasks()

    async def __aenter__(self) -> Self:
        await self._feeds.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._feeds.__aexit__(kind, error, traceback)
        await self._tasks.aclose()

    async def start(self, order: StartRequest[Workflow, Command, Result], *, wait_seconds: float) -> Operation:
        """The operation that was ordered, now or before; IdempotencyKeyReused where it was ordered otherwise before.

        Once it has closed or waits for its user, or as it stands when the seconds are over.
        """
        operation = await self._starter.started_under_former_keys(order) or await self._starter.start(order)
        self._records.add(operation, order.subject, order.retry_of)
        self._notify_feeds(operation)
        return await self.settle(operation, wait_seconds=wait_seconds)

    async def started_before(self, id: str, asked: JsonValue, *, wait_seconds: float) -> Operation | None:
        """The operation that this id has started before, as ``start``; None if it has started none."""
        operation = await self._starter.started_before(id, asked)
        return None if operation is None else await self.settle(operation, wait_seconds=wait_seconds)

    async def settle(self, operation: Operation, *, wait_seconds: float) -> Operation:
        """The operation once it has closed or waits for its user, or as it stands when the seconds are over."""
        if wait_seconds > 0:
            try:
                async with asyncio.timeout(wait_seconds):
                    operation = await self.settled(operation)
            except TimeoutError:
                operation = await self._describe(operation.id)
        if operation.is_closed:
            self._records.add(operation)
        return operation

    async def settled(self, operation: Operation) -> Operation:
        """The operation once it has closed or waits for its user."""
        if not _settled(operation):
            async with aclosing(self._hub.watch(operation.id, after=operation.position)) as states:
                async for newer in states:
                    operation = newer
                    if _settled(operation):
                        break
        return operation

    async def login_awaiting_code(self, access: OperationAccess, login_id: str, requester: Requester) -> Operation:
        """Conflict where no code is awaited; OperationNotFound where the client did not start it."""
        if kind_of(login_id) is not OperationKind.LOGIN:
            raise OperationNotFound()
        access.check_control(login_id)
        login = await self._load(login_id, requester)
        if login.is_closed:
            raise LoginNotWaiting()
        return login

    async def submit_mfa_code(self, login: Operation, code: str) -> None:
        """Have it go on with the code. InvalidMfaCode with the tries left, Conflict where no code is awaited."""
        try:
            await self._client.get_workflow_handle(login.id).execute_update(
                LogIn.submit_mfa_code, code, rpc_timeout=RPC_SECONDS
            )
        except WorkflowUpdateRPCTimeoutOrCancelledError as error:
            if isinstance(error.__cause__, asyncio.CancelledError):  # the SDK swallows it
                raise error.__cause__ from None
            raise DeadlineExceeded(service=TEMPORAL) from error
        except WorkflowUpdateFailedError as error:
            if domain_error(error) is None and isinstance(error.cause, ApplicationError):
                raise LoginNotWaiting() from error  # it closed while the code was looked at
            raise
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:  # it closed meanwhile
                raise LoginNotWaiting() from error
            raise

    async def after_code(self, login: Operation, *, wait_seconds: float) -> Operation:
        """The login, once it has gone on."""
        return await self.settle(await self._describe(login.id), wait_seconds=wait_seconds)

    async def get(self, access: OperationAccess, operation_id: str, requester: Requester) -> Operation:
        """The operation as the client may see it; OperationNotFound where it may not."""
        operation = (await self.load([operation_id], requester))[operation_id]
        if isinstance(operation, Exception):
            raise operation
        return await access.shown(operation)

    async def load(self, operation_ids: Sequence[str], requester: Requester) -> dict[str, Operation | Exception]:
        """Return the operation of each id, without a check of access; the error if it could not be loaded.

        What Temporal does not retain is read from the record; what was deleted is not found.
        """
        looking_up = self._tasks.start(self._look_up(operation_ids), name="look up operations in the record")
        found = await run_concurrently(
            *(self._load_or_error(operation_id, requester) for operation_id in operation_ids)
        )
        is_missing = any(isinstance(operation, OperationNotFound) for operation in found)
        recorded = await self._recorded(looking_up, seconds=None if is_missing else DELETION_CHECK_SECONDS)
        return {id_: recorded.joined(id_, operation) for id_, operation in zip(operation_ids, found, strict=True)}

    async def follow(
        self, access: OperationAccess, operation_id: str, *, after: str | None
    ) -> AsyncGenerator[Operation]:
        """The operation as it stands, then each newer state to its close; ``after`` is a cursor of it."""
        if kind_of(operation_id) is None:
            raise OperationNotFound()
        position = None if after is None else self._cursors.read(operation_id, after)
        is_known = self._hub.current(operation_id) is not None
        states = self._hub.watch(operation_id, after=position, admit=lambda found: self._admit(access, found))
        try:
            async with aclosing(states):
                async for operation in states:
                    yield await access.shown(await with_repair(operation, self._client))
        except OperationNotFound as error:
            if is_known:  # Temporal was not called, and a quicker answer would reveal that the operation exists
                await self._look_for_nothing()
            recorded = (await self._look_up([operation_id])).joined(operation_id, error)
            if isinstance(recorded, Exception):
                raise recorded from error
            shown = await access.shown(recorded)
            if position is None or shown.position.as_tuple() > position.as_tuple():
                yield shown

    async def _admit(self, access: OperationAccess, operation: Operation) -> None:
        """Raise OperationNotFound if the client may not see the operation, or if it was deleted after its end."""
        await access.shown(operation)
        if operation.is_closed:
            looking_up = self._tasks.start(self._look_up([operation.id]), name="look up an operation in the record")
            if operation.id in (await self._recorded(looking_up, seconds=DELETION_CHECK_SECONDS)).deleted:
                raise OperationNotFound()

    def delivery(self, operation_id: str) -> Delivery | None:
        """How the states of an operation that is followed in this process come."""
        return self._hub.delivery(operation_id)

    async def follow_all(self, viewer: Session, filter: RecordFilter) -> AsyncGenerator[Operation]:
        """Each operation of the viewer in the current tenant, as it starts, moves and closes; without an end.

        With a filter, the states that match it, and of an operation that stops matching the state in which it does.
        """
        shown: set[str] = set()
        async with aclosing(self._feeds.follow(viewer)) as states:
            async for operation in states:
                matches = filter.matches(operation) and (
                    not filter.concerns_subject or await self._subject_matches(operation.id, filter)
                )
                if matches or operation.id in shown:
                    yield operation
                if matches and not operation.is_closed:
                    shown.add(operation.id)
                else:
                    shown.discard(operation.id)

    async def _subject_matches(self, operation_id: str, filter: RecordFilter) -> bool:
        """Whether the subject matches, which only the record knows; False if the record does not answer."""
        try:
            found = (await self._records.look_up([operation_id])).records
        except DomainError as error:
            log.warning("record_lookup_failed", error=repr(error))
            return False
        return any(filter.matches_subject(record.subject) for record in found)

    async def cancel(self, access: OperationAccess, operation_id: str, requester: Requester) -> Operation:
        """Ask it to stop and undo what it did; harmless where it has closed. OperationNotFound for the login of another
        client.
        """
        access.check_control(operation_id)
        operation = await self.get(access, operation_id, requester)
        if not operation.is_closed:
            try:
                await self._client.get_workflow_handle(operation_id).cancel(rpc_timeout=RPC_SECONDS)
            except RPCError as error:
                if error.status != RPCStatusCode.NOT_FOUND:  # it closed meanwhile
                    raise
            operation = await self.get(access, operation_id, requester)
        return operation

    async def command(self, operation_id: str, command: type[Command]) -> Command:
        """What the operation was started with, as the first event of its history holds it.

        Raises:
            OperationNotRetryable: Temporal does not retain the history any more.
        """
        history = self._client.get_workflow_handle(operation_id).fetch_history_events(
            page_size=1, skip_archival=True, rpc_timeout=RPC_SECONDS
        )
        try:
            await history.fetch_next_page()
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise
            raise OperationNotRetryable() from error
        (first, *_) = history.current_page or ()
        started = first.workflow_execution_started_event_attributes
        (decoded,) = await self._client.data_converter.decode(started.input.payloads, [command])
        assert isinstance(decoded, command)
        return decoded

    def cursor(self, operation: Operation) -> str:
        return self._cursors.write(operation.id, operation.position)

    def _notify_feeds(self, operation: Operation) -> None:
        """Notify feeds behind the response: a notification may be lost, and feeds check their list at an interval."""
        self._tasks.start(self._notify(operation), name="notify feeds of a start")

    async def _notify(self, operation: Operation) -> None:
        await self._records.wait_while_pending(operation.id)
        await self._change_notifier.notify(operation.user_id)

    async def _look_for_nothing(self) -> None:
        """What it costs to find out that there is no such operation."""
        nothing = self._client.get_workflow_handle(uuid4().hex)
        try:
            await nothing.fetch_history_events(wait_new_event=True, rpc_timeout=RPC_SECONDS).fetch_next_page()
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise

    async def _look_up(self, operation_ids: Sequence[str]) -> Recorded:
        """What the record has of these operations; unknown if it does not answer."""
        ours = [operation_id for operation_id in operation_ids if kind_of(operation_id) is not None]
        if not ours:
            return Recorded()
        try:
            found = await self._records.look_up(ours)
        except DomainError as error:
            log.warning("record_lookup_failed", error=repr(error))
            return UNKNOWN
        return Recorded({record.operation.id: record.operation for record in found.records}, frozenset(found.deleted))

    async def _recorded(self, looking_up: asyncio.Task[Recorded], *, seconds: float | None) -> Recorded:
        """What is being looked up; unknown if that takes longer than so many seconds."""
        await asyncio.wait((looking_up,), timeout=seconds)
        if looking_up.done():
            return looking_up.result()
        self._tasks.cancel(looking_up)
        return UNKNOWN

    async def _load(self, operation_id: str, requester: Requester) -> Operation:
        """Describe it within the share of who asks."""
        if kind_of(operation_id) is None:
            raise OperationNotFound()
        async with self._describe_quota.slot(requester):
            return await self._describe(operation_id)

    async def _load_or_error(self, operation_id: str, requester: Requester) -> Operation | Exception:
        try:
            return await self._load(operation_id, requester)
        except Exception as error:  # noqa: BLE001 - it is raised where this operation is loaded
            return error

    async def _describe(self, operation_id: str) -> Operation:
        if kind_of(operation_id) is None:
            raise OperationNotFound()
        try:
            description = await self._client.get_workflow_handle(operation_id).describe(rpc_timeout=RPC_SECONDS)
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                raise OperationNotFound() from error
            raise
        return await with_repair(await to_operation(description, self._client), self._client)


def _settled(operation: Operation) -> bool:
    return operation.is_closed or operation.state.status is OperationStatus.WAITING
