"""Repair of the record when the record rejects an operation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from temporalio.client import Client

from activities.operations.record_repair import RecordRepair
from contracts.operation_records import OperationRecord
from tests.resolvers.operations.record_of_operations import Record
from tests.resolvers.operations.test_record_repair import describe, make_older, repair_until
from tests.resolvers.scripted import scripts


async def test_rejected_operation_does_not_stop_the_repair_of_others(
    temporal_client: Client, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    repair = RecordRepair(temporal_client, record.service)
    async with scripts(temporal_client) as starter:
        unknown, other, known, last = [await starter.start(with_kind=True) for _ in range(4)]
        await record.service.write([OperationRecord(operation=await describe(temporal_client, known))])
        await record.service.write([OperationRecord(operation=await describe(temporal_client, last))])
        rejected = {unknown.id, known.id}
        write, replace = record.service.write, record.service.replace

        async def rejecting_write(records: Sequence[OperationRecord]) -> None:
            if rejected & {each.operation.id for each in records}:
                raise ValueError("It cannot be stored.")
            await write(records)

        async def rejecting_replace(found: OperationRecord, **options: Any) -> bool:
            if found.operation.id in rejected:
                raise ValueError("It cannot be stored.")
            return await replace(found, **options)

        monkeypatch.setattr(record.service, "write", rejecting_write)
        monkeypatch.setattr(record.service, "replace", rejecting_replace)
        for script in (unknown, other, known, last):
            await script.end()

        async def are_closed() -> bool:
            await make_older(15)
            found = [await record.operation(script.id) for script in (other, last)]
            return all(each is not None and each.is_closed for each in found)

        await repair_until(repair, are_closed)
        assert await record.operation(unknown.id) is None
