"""The lifecycle of operations as clients use it: start, load, follow, wait, submit a code, cancel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from types import TracebackType
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
from resolvers.operations.recorded_operations import UNAVAILABLE_RECORD, RecordedOperations
from resolvers.operations.records import OperationRecords
from resolvers.operations.start import RPC_TIMEOUT, Command, Result, StartRequest, Workflow, WorkflowStarter
from workflows.log_in import LogIn

log = structlog.get_logger(__name__)


class StartedOperation(NamedTuple):
    """Payload of a mutation that starts an operation."""

    operation: Operation


DELETION_CHECK_TIMEOUT_SECONDS = 0.5
"""How long an operation that Temporal returned waits for the record, which knows whether it was deleted."""


class OperationLifecycle:
    """Starts, loads, follows and cancels operations, with Temporal and the record of operations; one per process."""

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

    async def start(self, request: StartRequest[Workflow, Command, Result], *, wait_seconds: float) -> Operation:
        """Start the operation, or find the one that the same idempotency key has started.

        Returns:
            The operation once it has closed or waits for its user, or its state after ``wait_seconds``.

        Raises:
            IdempotencyKeyReused: the same idempotency key started an operation with other input.
        """
        operation = await self._starter.find_started_under_former_keys(request) or await self._starter.start(request)
        self._records.add(operation, request.subject, request.retry_of)
        self._notify_feeds(operation)
        return await self.settle_within(operation, wait_seconds=wait_seconds)

    async def find_started(self, id: str, fingerprint: JsonValue, *, wait_seconds: float) -> Operation | None:
        """Return the operation with this id, as ``start`` does; None if no operation has this id.

        Raises:
            IdempotencyKeyReused: the operation was started with other input.
        """
        operation = await self._starter.find_started(id, fingerprint)
        return None if operation is None else await self.settle_within(operation, wait_seconds=wait_seconds)

    async def settle_within(self, operation: Operation, *, wait_seconds: float) -> Operation:
        """Return the operation once it has closed or waits for its user, or its state after ``wait_seconds``."""
        if wait_seconds > 0:
            try:
                async with asyncio.timeout(wait_seconds):
                    operation = await self.wait_until_settled(operation)
            except TimeoutError:
                operation = await self._describe(operation.id)
        if operation.is_closed:
            self._records.add(operation)
        return operation

    async def wait_until_settled(self, operation: Operation) -> Operation:
        """Return the operation once it has closed or waits for its user; wait without a limit."""
        if not _is_settled(operation):
            async with aclosing(self._hub.watch(operation.id, after=operation.position)) as states:
                async for newer in states:
                    operation = newer
                    if _is_settled(operation):
                        break
        return operation

    async def load_login_awaiting_mfa_code(
        self, access: OperationAccess, login_id: str, requester: Requester
    ) -> Operation:
        """Return a login that has not closed and that this client may control.

        Raises:
            LoginNotWaiting: the login has closed.
            OperationNotFound: there is no such login, or this client did not start it.
        """
        if kind_of(login_id) is not OperationKind.LOGIN:
            raise OperationNotFound()
        access.authorize_control(login_id)
        login = await self._load(login_id, requester)
        if login.is_closed:
            raise LoginNotWaiting()
        return login

    async def submit_mfa_code(self, login: Operation, code: str) -> None:
        """Submit the code of the second factor to a login.

        Raises:
            InvalidMfaCode: the code is wrong; the error has the number of remaining attempts.
            LoginNotWaiting: the login does not wait for a code.
            DeadlineExceeded: the login did not check the code in time.
        """
        try:
            await self._client.get_workflow_handle(login.id).execute_update(
                LogIn.submit_mfa_code, code, rpc_timeout=RPC_TIMEOUT
            )
        except WorkflowUpdateRPCTimeoutOrCancelledError as error:
            if isinstance(error.__cause__, asyncio.CancelledError):  # the SDK wraps the cancellation
                raise error.__cause__ from None
            raise DeadlineExceeded(service=TEMPORAL) from error
        except WorkflowUpdateFailedError as error:
            if domain_error(error) is None and isinstance(error.cause, ApplicationError):
                raise LoginNotWaiting() from error  # the login closed while the code was being checked
            raise
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:  # the operation has closed in the meantime
                raise LoginNotWaiting() from error
            raise

    async def wait_after_mfa_code(self, login: Operation, *, wait_seconds: float) -> Operation:
        """Return the login after its code was accepted, as ``settle_within`` does."""
        return await self.settle_within(await self._describe(login.id), wait_seconds=wait_seconds)

    async def get(self, access: OperationAccess, operation_id: str, requester: Requester) -> Operation:
        """Return the operation as the client may see it.

        Raises:
            OperationNotFound: there is no such operation, or the client may not see it.
        """
        operation = (await self.load([operation_id], requester))[operation_id]
        if isinstance(operation, Exception):
            raise operation
        return await access.authorize_read(operation)

    async def load(self, operation_ids: Sequence[str], requester: Requester) -> dict[str, Operation | Exception]:
        """Return the operation of each id without a check of access, or the error if it could not be loaded.

        An operation that Temporal no longer retains is read from the record; a deleted operation is not found.
        """
        lookup = self._tasks.start(self._look_up_records(operation_ids), name="look up operations in the record")
        found = await run_concurrently(
            *(self._load_or_error(operation_id, requester) for operation_id in operation_ids)
        )
        is_missing = any(isinstance(operation, OperationNotFound) for operation in found)
        recorded = await self._await_lookup(lookup, seconds=None if is_missing else DELETION_CHECK_TIMEOUT_SECONDS)
        return {id_: recorded.merge(id_, operation) for id_, operation in zip(operation_ids, found, strict=True)}

    async def follow(
        self, access: OperationAccess, operation_id: str, *, after: str | None
    ) -> AsyncGenerator[Operation]:
        """Yield the current state of the operation, then each newer state, until the operation closes.

        Args:
            after: Cursor of the operation; only newer states are yielded.

        Raises:
            InvalidCursor: ``after`` is not a cursor of this operation.
            OperationNotFound: there is no such operation, or the client may not see it.
            ServiceUnavailable: Temporal or the record is unavailable.
        """
        if kind_of(operation_id) is None:
            raise OperationNotFound()
        position = None if after is None else self._cursors.decode(operation_id, after)
        was_watched = self._hub.current(operation_id) is not None
        states = self._hub.watch(operation_id, after=position, authorize=lambda found: self._authorize(access, found))
        try:
            async with aclosing(states):
                async for operation in states:
                    yield await access.authorize_read(await with_repair(operation, self._client))
        except OperationNotFound as error:
            if was_watched:  # without a call to Temporal the faster response would reveal that the operation exists
                await self._equalize_timing()
            recorded = (await self._look_up_records([operation_id])).merge(operation_id, error)
            if isinstance(recorded, Exception):
                raise recorded from error
            shown = await access.authorize_read(recorded)
            if position is None or shown.position.as_tuple() > position.as_tuple():
                yield shown

    async def _authorize(self, access: OperationAccess, operation: Operation) -> None:
        """Check that the client may see the operation, and that the operation was not deleted after its close.

        Raises:
            OperationNotFound: one of both does not hold.
        """
        await access.authorize_read(operation)
        if operation.is_closed:
            lookup = self._tasks.start(self._look_up_records([operation.id]), name="look up an operation in the record")
            if operation.id in (await self._await_lookup(lookup, seconds=DELETION_CHECK_TIMEOUT_SECONDS)).deleted:
                raise OperationNotFound()

    def delivery(self, operation_id: str) -> Delivery | None:
        """Return how the states of an operation arrive; None if this process does not follow the operation."""
        return self._hub.delivery(operation_id)

    async def follow_feed(self, viewer: Session, filter: RecordFilter) -> AsyncGenerator[Operation]:
        """Yield the state of each operation of the viewer in the current tenant whenever one starts, changes or closes.

        Only states that match the filter are yielded, and the first state in which an operation no longer matches. The
        stream
        does not end by itself.
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
        """Return whether the subject matches, according to the record; False if the record is unavailable."""
        try:
            found = (await self._records.look_up([operation_id])).records
        except DomainError as error:
            log.warning("record_lookup_failed", error=repr(error))
            return False
        return any(filter.matches_subject(record.subject) for record in found)

    async def cancel(self, access: OperationAccess, operation_id: str, requester: Requester) -> Operation:
        """Request that the operation stops and undoes its completed steps; an operation that has closed is unchanged.

        Raises:
            OperationNotFound: the client may not see the operation, or it is a login that another client started.
        """
        access.authorize_control(operation_id)
        operation = await self.get(access, operation_id, requester)
        if not operation.is_closed:
            try:
                await self._client.get_workflow_handle(operation_id).cancel(rpc_timeout=RPC_TIMEOUT)
            except RPCError as error:
                if error.status != RPCStatusCode.NOT_FOUND:  # the operation has closed in the meantime
                    raise
            operation = await self.get(access, operation_id, requester)
        return operation

    async def load_command(self, operation_id: str, command: type[Command]) -> Command:
        """Return the command that the operation was started with, from the first event of its history.

        Raises:
            OperationNotRetryable: Temporal no longer retains the history.
        """
        history = self._client.get_workflow_handle(operation_id).fetch_history_events(
            page_size=1, skip_archival=True, rpc_timeout=RPC_TIMEOUT
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
        """Return the cursor of the operation's current state."""
        return self._cursors.encode(operation.id, operation.position)

    def _notify_feeds(self, operation: Operation) -> None:
        """Notify the user's feeds in the background; without a notification they read their list at an interval."""
        self._tasks.start(self._notify(operation), name="notify feeds of a start")

    async def _notify(self, operation: Operation) -> None:
        await self._records.wait_while_pending(operation.id)
        await self._change_notifier.notify(operation.user_id)

    async def _equalize_timing(self) -> None:
        """Call Temporal as for an operation that does not exist, so that the response time reveals nothing."""
        handle = self._client.get_workflow_handle(uuid4().hex)
        try:
            await handle.fetch_history_events(wait_new_event=True, rpc_timeout=RPC_TIMEOUT).fetch_next_page()
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise

    async def _look_up_records(self, operation_ids: Sequence[str]) -> RecordedOperations:
        """Look the operations up in the record."""
        valid_ids = [operation_id for operation_id in operation_ids if kind_of(operation_id) is not None]
        if not valid_ids:
            return RecordedOperations()
        try:
            found = await self._records.look_up(valid_ids)
        except DomainError as error:
            log.warning("record_lookup_failed", error=repr(error))
            return UNAVAILABLE_RECORD
        return RecordedOperations(
            {record.operation.id: record.operation for record in found.records}, frozenset(found.deleted)
        )

    async def _await_lookup(
        self, lookup: asyncio.Task[RecordedOperations], *, seconds: float | None
    ) -> RecordedOperations:
        """Return the result of the lookup, or ``UNAVAILABLE_RECORD`` if it takes longer than ``seconds``."""
        await asyncio.wait((lookup,), timeout=seconds)
        if lookup.done():
            return lookup.result()
        self._tasks.cancel(lookup)
        return UNAVAILABLE_RECORD

    async def _load(self, operation_id: str, requester: Requester) -> Operation:
        """Describe the operation within the requester's share of the describe quota."""
        if kind_of(operation_id) is None:
            raise OperationNotFound()
        async with self._describe_quota.slot(requester):
            return await self._describe(operation_id)

    async def _load_or_error(self, operation_id: str, requester: Requester) -> Operation | Exception:
        try:
            return await self._load(operation_id, requester)
        except Exception as error:  # noqa: BLE001 - the caller raises it for this operation
            return error

    async def _describe(self, operation_id: str) -> Operation:
        """Return the current state of the operation from Temporal.

        Raises:
            OperationNotFound: Temporal does not have the operation.
        """
        if kind_of(operation_id) is None:
            raise OperationNotFound()
        try:
            description = await self._client.get_workflow_handle(operation_id).describe(rpc_timeout=RPC_TIMEOUT)
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                raise OperationNotFound() from error
            raise
        return await with_repair(await to_operation(description, self._client), self._client)


def _is_settled(operation: Operation) -> bool:
    """Return whether the operation has closed or waits for its user."""
    return operation.is_closed or operation.state.status is OperationStatus.WAITING
