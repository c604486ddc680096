"""``python -m tools.generate_operations COUNT``: fill a PostgreSQL database with records of closed operations.

The database is the one that DATABASE_URL names; its tables must exist (``make migrate``). The records spread over
365 days, 200 users and the tenant that TENANT_ID names, with a few operations that have not closed.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta

import asyncpg

from activities.operations.mapping import record_row, state_row
from activities.operations.sql import Value
from contracts.base import new_id, utc_now
from contracts.operation_records import OperationRecord, Subject
from contracts.operations import (
    Operation,
    OperationKind,
    OperationState,
    OperationStatus,
    Position,
    StepStatus,
    operation_id,
)

DAYS = 365
USERS = 200
OPEN_OPERATIONS = 200
_BATCH = 5_000
_WORDS = ("report", "invoice", "plan", "draft", "photo", "contract", "minutes", "budget", "sketch", "notes")
_ENDS = (
    *(OperationStatus.COMPLETED,) * 17,
    OperationStatus.FAILED,
    OperationStatus.CANCELLED,
    OperationStatus.TIMED_OUT,
)


def generate_records(count: int, tenant_id: str, now: datetime, seed: int = 1) -> Iterator[OperationRecord]:
    """Yield records of one tenant; the last OPEN_OPERATIONS have not closed."""
    rng = random.Random(seed)
    users = [new_id("usr") for _ in range(USERS)]
    kinds = list(OperationKind)
    for number in range(count):
        kind, user_id = rng.choice(kinds), rng.choice(users)
        started_at = now - timedelta(seconds=rng.random() * DAYS * 86_400)
        is_open = number >= count - OPEN_OPERATIONS
        status = OperationStatus.RUNNING if is_open else rng.choice(_ENDS)
        state = OperationState.first(kind, started_at, started_by=user_id)
        steps = tuple(step.model_copy(update={"status": StepStatus.COMPLETED, "attempt": 1}) for step in state.steps)
        label = f"{rng.choice(_WORDS)}-{number}.pdf" if rng.random() < 0.5 else f"user{number}@example.com"
        yield OperationRecord(
            operation=Operation(
                id=operation_id(b"", kind, tenant_id=tenant_id, user_id=user_id, key=None),
                kind=kind,
                user_id=user_id,
                tenant_ids=(tenant_id,),
                state=state.model_copy(update={"status": status, "steps": steps, "revision": 9}),
                closed_at=None if is_open else started_at + timedelta(seconds=rng.expovariate(0.2)),
                position=Position(revision=9, closed=not is_open),
            ),
            subject=Subject(label=label, target_id=new_id("fil"), is_private=rng.random() < 0.3),
        )


async def fill(url: str, count: int, tenant_id: str) -> None:
    """Copy the records into the database and update its statistics."""
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(url)
    try:
        batch: list[OperationRecord] = []
        for record in generate_records(count, tenant_id, utc_now()):
            batch.append(record)
            if len(batch) == _BATCH:
                await _copy(connection, batch)
                batch = []
        await _copy(connection, batch)
        await connection.execute("VACUUM ANALYZE operations_record")
        await connection.execute("VACUUM ANALYZE operations_state")
    finally:
        await connection.close()


async def _copy(connection: asyncpg.Connection[asyncpg.Record], records: list[OperationRecord]) -> None:
    if not records:
        return
    now = utc_now()
    tables: dict[str, list[dict[str, Value]]] = {
        "operations_record": [record_row(record, now) for record in records],
        "operations_state": [state_row(record) for record in records],
    }
    for table, rows in tables.items():
        columns = list(rows[0])
        await connection.copy_records_to_table(
            table, columns=columns, records=[tuple(row[column] for column in columns) for row in rows]
        )


if __name__ == "__main__":
    asyncio.run(fill(os.environ["DATABASE_URL"], int(sys.argv[1]), os.environ["TENANT_ID"]))
