"""A write buffer in front of the record of operations: it coalesces states of one operation and writes batches.

Callers do not wait for a write. While the record is unavailable, the newest state of each operation stays in the buffer
and the write is repeated. States that do not fit into the buffer are dropped; the repair of the record restores them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TypeAlias

import structlog

from contracts.errors import DeadlineExceeded, ServiceUnavailable
from contracts.operation_records import MAX_BATCH, OperationRecord
from infrastructure.change_notifications import wait_for_event
from infrastructure.tasks import supervised

COALESCE_SECONDS = 0.05
"""States that are added within this time are written together."""
MAX_BUFFERED = 20_000
"""Operations whose newest state may wait to be written; beyond this number the oldest one is dropped."""
MAX_WAIT_SECONDS = 2.0
"""Time for which a list of operations waits for writes of its own process."""
_WRITE_TIMEOUT_SECONDS = 5.0
_RETRY_DELAY_SECONDS = (0.2, 5.0)
"""Delay before the first repetition of a write, and the upper limit of the delay."""
_UNAVAILABLE = (ServiceUnavailable, DeadlineExceeded, TimeoutError, OSError)
"""Errors that concern the service and not a single record, so that writing the records one by one would not help."""

log = structlog.get_logger(__name__)

Write: TypeAlias = Callable[[Sequence[OperationRecord]], Awaitable[None]]


class RecordBuffer:
    """Buffers and writes the states of operations that one process observes, at most one state per operation.

    Args:
        write: Writes a batch of records.
        coalesce_seconds: States that are added within this time are written together.
        capacity: Operations whose state may wait to be written.
    """

    def __init__(
        self, write: Write, *, coalesce_seconds: float = COALESCE_SECONDS, capacity: int = MAX_BUFFERED
    ) -> None:
        self._write = write
        self._coalesce_seconds = coalesce_seconds
        self._capacity = capacity
        self._waiting: dict[str, OperationRecord] = {}
        self._in_flight: Sequence[OperationRecord] = ()
        self._has_records = asyncio.Event()
        self._is_urgent = asyncio.Event()
        self._attempt_ended = asyncio.Event()
        self._failures = 0
        self.dropped = 0
        """Number of states that were dropped because the buffer was full."""

    def add(self, record: OperationRecord) -> None:
        """Add a record. Of two states of one operation the newer one is kept, with the subject of either."""
        id_ = record.operation.id
        self._waiting[id_] = record.merged_with(self._waiting.pop(id_, None))
        if len(self._waiting) > self._capacity:
            del self._waiting[next(iter(self._waiting))]
            self.dropped += 1
        self._has_records.set()

    async def wait_while_pending(self, selects: Callable[[OperationRecord], bool], *, urgent: bool = True) -> None:
        """Wait until the records that are in the buffer now and that ``selects`` accepts have been written.

        Return also as soon as a write fails, and after ``MAX_WAIT_SECONDS``.

        Args:
            selects: Returns whether to wait for a record.
            urgent: Write at once, without waiting for further states to coalesce.
        """
        ids = {each.operation.id for each in (*self._in_flight, *self._waiting.values()) if selects(each)}
        with suppress(TimeoutError):
            async with asyncio.timeout(MAX_WAIT_SECONDS):
                while self._failures == 0 and ids:
                    if urgent:
                        self._is_urgent.set()
                    await self._attempt_ended.wait()
                    in_flight = {record.operation.id for record in self._in_flight}
                    ids = {id_ for id_ in ids if id_ in self._waiting or id_ in in_flight}

    async def run(self) -> None:
        """Write the added records until cancelled; then write the remaining records once."""
        try:
            while True:
                await self._has_records.wait()
                await wait_for_event(self._is_urgent, self._coalesce_seconds)
                self._is_urgent.clear()
                try:
                    await self._write_all()
                except Exception as error:  # noqa: BLE001 - the write is repeated after any error
                    waiting, failures = len(self._waiting), self._failures
                    log.warning("record_write_failed", waiting=waiting, failures=failures, error=repr(error))
                    await asyncio.sleep(_delay(failures))
        finally:
            with suppress(Exception):  # the repair of the record restores states that are not written
                await self._write_all()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write the added records while the block runs."""
        async with supervised(self.run, name="write the record of operations"):
            yield

    async def _write_all(self) -> None:
        while self._waiting:
            self._in_flight = list(self._waiting.values())[:MAX_BATCH]
            for record in self._in_flight:
                del self._waiting[record.operation.id]
            try:
                await write_batch(self._write, self._in_flight)
            except BaseException:
                self._failures += 1
                for record in self._in_flight:
                    self.add(record)
                raise
            finally:
                self._in_flight = ()
                ended, self._attempt_ended = self._attempt_ended, asyncio.Event()
                ended.set()
            self._failures = 0
        self._has_records.clear()


async def write_batch(write: Write, batch: Sequence[OperationRecord]) -> None:
    """Write a batch. If it is rejected, write its records one by one; log and drop those that are rejected again.

    Raises:
        Exception: None of the records could be written, so the record of operations counts as unavailable.
    """
    try:
        await _write_with_timeout(write, batch)
    except _UNAVAILABLE:
        raise
    except Exception:
        if len(batch) == 1:
            raise
        rejected = [record for record in batch if not await _accepts(write, record)]
        if len(rejected) == len(batch):
            raise
        ids = [record.operation.id for record in rejected]
        log.exception("records_rejected", operations=ids)


async def _accepts(write: Write, record: OperationRecord) -> bool:
    try:
        await _write_with_timeout(write, [record])
    except _UNAVAILABLE:
        raise
    except Exception:  # noqa: BLE001 - the caller evaluates the results of all records
        return False
    return True


async def _write_with_timeout(write: Write, batch: Sequence[OperationRecord]) -> None:
    async with asyncio.timeout(_WRITE_TIMEOUT_SECONDS):
        await write(batch)


def _delay(failures: int) -> float:
    """Return the seconds before the next attempt: exponential backoff with jitter."""
    first, maximum = _RETRY_DELAY_SECONDS
    return random.uniform(first, min(maximum, first * 2**failures))  # noqa: S311 - jitter, not a secret
