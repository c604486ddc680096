"""RecordBuffer: coalescing, batches, repetition of failed writes, rejected records and waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from contracts.errors import InvalidInput, ServiceUnavailable
from contracts.operation_records import MAX_BATCH, OperationRecord, Subject
from contracts.operations import Operation, OperationKind, OperationState, Position, operation_id
from infrastructure.record_buffer import RecordBuffer


class Store:
    """Stores the written records. Writes fail while ``is_down``, and always if they contain an id in ``rejects``."""

    def __init__(self) -> None:
        self.batches: list[list[OperationRecord]] = []
        self.attempts = 0
        self.is_down = False
        self.rejects: set[str] = set()

    async def write(self, records: Sequence[OperationRecord]) -> None:
        self.attempts += 1
        if self.is_down:
            raise ServiceUnavailable(service="operations")
        if any(record.operation.id in self.rejects for record in records):
            raise InvalidInput("It cannot be stored.")
        self.batches.append(list(records))

    @property
    def stored(self) -> dict[str, OperationRecord]:
        return {record.operation.id: record for batch in self.batches for record in batch}


@pytest.fixture
def store() -> Store:
    return Store()


def record(revision: int = 0, *, id: str | None = None, subject: Subject | None = None) -> OperationRecord:
    kind = OperationKind.USER_ONBOARDING
    return OperationRecord(
        operation=Operation(
            id=id or operation_id(b"", kind, tenant_id="", user_id="", key=None),
            kind=kind,
            user_id="usr_a",
            tenant_ids=("ten_a",),
            state=OperationState.first(kind, datetime.now(UTC)),
            position=Position(revision=revision),
        ),
        subject=subject,
    )


def anything(_record: OperationRecord) -> bool:
    return True


async def test_states_of_one_operation_are_written_once_with_the_newest(store: Store) -> None:
    buffer, subject = RecordBuffer(store.write), Subject(label="zoe@example.com")
    first = record(1, subject=subject)
    async with buffer.running():
        buffer.add(first)
        buffer.add(record(3, id=first.operation.id))
        buffer.add(record(2, id=first.operation.id))
        await buffer.wait_while_pending(anything)

    [[written]] = store.batches
    assert (written.operation.position.revision, written.subject) == (3, subject)


async def test_wait_returns_only_after_the_record_is_written(store: Store) -> None:
    buffer = RecordBuffer(store.write, coalesce_seconds=60)
    async with buffer.running():
        added = record()
        buffer.add(added)
        await asyncio.wait_for(buffer.wait_while_pending(lambda each: each.operation.id == added.operation.id), 5)

        assert added.operation.id in store.stored
        await buffer.wait_while_pending(anything)


async def test_wait_ends_while_further_records_are_added_continuously(store: Store) -> None:
    buffer = RecordBuffer(store.write, coalesce_seconds=0)
    async with buffer.running():
        first = record()
        buffer.add(first)
        waiting = asyncio.create_task(buffer.wait_while_pending(anything))
        for _ in range(100):
            await asyncio.sleep(0)
            buffer.add(record())
        assert waiting.done()
        assert first.operation.id in store.stored


async def test_failed_writes_are_repeated_and_newer_states_win(store: Store) -> None:
    buffer, store.is_down = RecordBuffer(store.write, coalesce_seconds=0), True
    async with buffer.running():
        first = record(1)
        buffer.add(first)
        await asyncio.wait_for(buffer.wait_while_pending(anything), 5)
        buffer.add(record(2, id=first.operation.id))
        assert store.batches == []

        store.is_down = False
        async with asyncio.timeout(10):
            while not store.batches:  # noqa: ASYNC110 - the store has no event
                await asyncio.sleep(0.01)

    assert store.stored[first.operation.id].operation.position.revision == 2


async def test_record_that_cannot_be_stored_does_not_block_the_others(store: Store) -> None:
    buffer = RecordBuffer(store.write, coalesce_seconds=0.01)
    bad, good = record(), [record() for _ in range(5)]
    store.rejects = {bad.operation.id}
    async with buffer.running():
        for each in (*good[:2], bad, *good[2:]):
            buffer.add(each)
        await asyncio.wait_for(buffer.wait_while_pending(anything), 5)

    assert set(store.stored) == {each.operation.id for each in good}


async def test_many_records_are_written_in_batches(store: Store) -> None:
    buffer = RecordBuffer(store.write)
    async with buffer.running():
        for _ in range(2 * MAX_BATCH + 1):
            buffer.add(record())
        await buffer.wait_while_pending(anything)

    assert [len(batch) for batch in store.batches] == [MAX_BATCH, MAX_BATCH, 1]


async def test_full_buffer_drops_the_oldest_and_counts_it(store: Store) -> None:
    buffer = RecordBuffer(store.write, capacity=2)
    added = [record() for _ in range(3)]
    for each in added:
        buffer.add(each)
    async with buffer.running():
        await buffer.wait_while_pending(anything)

    assert list(store.stored) == [each.operation.id for each in added[1:]]
    assert buffer.dropped == 1


async def test_remaining_records_are_written_when_the_process_stops(store: Store) -> None:
    buffer = RecordBuffer(store.write, coalesce_seconds=60)
    async with buffer.running():
        await asyncio.sleep(0)
        buffer.add(record())

    assert len(store.stored) == 1


async def test_batch_is_written_once_per_attempt_while_the_record_is_down(store: Store) -> None:
    buffer = RecordBuffer(store.write)
    store.is_down = True
    async with buffer.running():
        for _ in range(50):
            buffer.add(record())
        await buffer.wait_while_pending(anything)
        assert store.attempts == 1
        store.is_down = False
        async with asyncio.timeout(10):
            while len(store.stored) < 50:  # noqa: ASYNC110 - the write is repeated after a pause
                await asyncio.sleep(0.05)
