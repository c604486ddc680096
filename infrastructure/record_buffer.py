"""A buffer of writes to the record of operations: it coalesces states of one operation and sends them in batches.

Nothing waits for a write. If the record is unavailable, the newest state of each operation stays in the buffer, and
the write is repeated; what the buffer cannot hold is corrected by the repair of the record.
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
from infrastructure.change_notifications import wait_for_event as event_or_timeout
from infrastructure.tasks import supervised

COALESCE_SECONDS = 0.05
"""States that follow within this time are written together."""
MAX_BUFFERED = 20_000
"""Operations whose newest state waits to be written; beyond that the oldest is dropped."""
MAX_WAIT_SECONDS = 2.0
"""How long a list waits for the starts of its own process."""
_WRITE_TIMEOUT = 5.0
_RETRY_SECONDS = (0.2, 5.0)
_UNAVAILABLE = (ServiceUnavailable, DeadlineExceeded, TimeoutError, OSError)
"""Errors that say nothing about a record: each further write would only wait as long again."""

log = structlog.get_logger(__name__)

Write: TypeAlias = Callable[[Sequence[OperationRecord]], Awaitable[None]]


class RecordBuffer:
    """The writes of one process that wait for the record, at most one state per operation."""

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
        """Operations whose state was dropped because the buffer was full."""

    def add(self, record: OperationRecord) -> None:
        """Add a record; of two states of one operation the newer one is kept, with the subject that either has."""
        id_ = record.operation.id
        self._waiting[id_] = record.merged_with(self._waiting.pop(id_, None))
        if len(self._waiting) > self._capacity:
            del self._waiting[next(iter(self._waiting))]
            self.dropped += 1
        self._has_records.set()

    async def wait_while_pending(self, concerns: Callable[[OperationRecord], bool], *, urgent: bool = True) -> None:
        """Wait until the records for which ``concerns`` is true now are written.

        Return also as soon as writes fail, and after ``MAX_WAIT_SECONDS``.

        Args:
            concerns: Selects the records to wait for.
            urgent: Write them at once instead of together with those of the next ``coalesce_seconds``.
        """
        ids = {each.operation.id for each in (*self._in_flight, *self._waiting.values()) if concerns(each)}
        with suppress(TimeoutError):
            async with asyncio.timeout(MAX_WAIT_SECONDS):
                while self._failures == 0 and ids:
                    if urgent:
                        self._is_urgent.set()
                    await self._attempt_ended.wait()
                    in_flight = {record.operation.id for record in self._in_flight}
                    ids = {id_ for id_ in ids if id_ in self._waiting or id_ in in_flight}

    async def run(self) -> None:
        """Write what is added, until cancelled; then write once more what is left."""
        try:
            while True:
                await self._has_records.wait()
                await event_or_timeout(self._is_urgent, self._coalesce_seconds)
                self._is_urgent.clear()
                try:
                    await self._write_all()
                except Exception as error:  # noqa: BLE001 - whatever fails, the write is repeated
                    waiting, failures = len(self._waiting), self._failures
                    log.warning("record_write_failed", waiting=waiting, failures=failures, error=repr(error))
                    await asyncio.sleep(_delay(failures))
        finally:
            with suppress(Exception):  # the repair corrects what is not written
                await self._write_all()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write what is added while the block runs."""
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
    """Write a batch. If it is refused, write its records one by one, and log and drop those that cannot be stored.

    Raises:
        Exception: none of the records could be written, so the record is unavailable.
    """
    try:
        await _write_in_time(write, batch)
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
        await _write_in_time(write, [record])
    except _UNAVAILABLE:
        raise
    except Exception:  # noqa: BLE001 - the caller decides by the other records
        return False
    return True


async def _write_in_time(write: Write, batch: Sequence[OperationRecord]) -> None:
    async with asyncio.timeout(_WRITE_TIMEOUT):
        await write(batch)


def _delay(failures: int) -> float:
    """Seconds before the next attempt: exponential with jitter."""
    first, longest = _RETRY_SECONDS
    return random.uniform(first, min(longest, first * 2**failures))  # noqa: S311 - jitter, not a secret
