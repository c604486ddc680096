"""The service of the record of operations: writes, lists, counts, statistics, and deletion of records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from tortoise.functions import Count

from activities.operations import models
from activities.operations.listing import OperationListQuery
from activities.operations.mapping import MICROSECOND, microseconds, moment, record_row, state_row, to_record
from activities.operations.sql import dialect_of, upsert
from activities.operations.statistics import StatisticsQuery
from activities.transactions import atomic, current_connection
from contracts.base import utc_now
from contracts.callers import Caller
from contracts.errors import NotSignedIn, OperationNotFound, PermissionDenied
from contracts.operation_records import (
    MAX_COUNT,
    OperationRecord,
    RecordLookup,
    RecordPage,
    RecordPageRequest,
    RecordPosition,
    revision_of,
)
from contracts.operation_statistics import OperationStatistics, StatisticsRequest
from contracts.operations import Operation, OperationStatus, kind_of

_PUBLICATION_LEAD = timedelta(seconds=10)
"""A worker publishes a state before Temporal has it: within this time, Temporal may still return an older state."""
ADMINISTER = "operations:administer"
_UPDATED_COLUMNS = (
    "status",
    "tenant_id",
    "other_tenant_id",
    "user_id",
    "closed_at",
    "duration_ms",
    "duration_class",
    "failed_step",
    "run_id",
    "needs_repair",
    "started_at",
    "written_at",
    "missing_since",
    "deleted_at",
)
_DELETED = "operations_record.deleted_at IS NOT NULL AND operations_record.deleted_at >= excluded.started_at"
_FIRST_VALUE_COLUMNS = ("subject", "search_key", "is_private", "target_id", "retry_of")


class StoredVersion(NamedTuple):
    """The stored version of an operation's record."""

    status: OperationStatus
    is_closed: bool
    run_id: str
    revision: int
    written_at: datetime
    deleted_at: datetime | None

    @classmethod
    def of(cls, row: models.OperationRecord) -> StoredVersion:
        """Return the stored version from a row."""
        return cls(
            status=OperationStatus(row.status),
            is_closed=row.closed_at > 0,
            run_id=row.run_id,
            revision=revision_of(row.version),
            written_at=moment(row.written_at),
            deleted_at=None if row.deleted_at is None else moment(row.deleted_at),
        )


class OperationsService:
    """The record of operations in SQL. It may lag behind Temporal; the newest version of an operation is kept."""

    def __init__(self, clock: Callable[[], datetime] = utc_now) -> None:
        self._clock = clock

    async def write(self, records: Sequence[OperationRecord]) -> None:
        """Store the records, each unless a newer version of its operation is stored or the operation was deleted.

        Idempotent. A write without a subject keeps the stored subject. An operation that was started after the deletion
        of an operation with the same id (by the same idempotency key) is stored as a new one.
        """
        newest = _newest_of_each(records)
        if not newest:
            return
        now = self._clock()

        await atomic(lambda: self._write_rows(newest, now))

    async def _write_rows(self, newest: Sequence[OperationRecord], now: datetime) -> None:
        connection = current_connection()
        rows = [record_row(record, now) for record in newest]
        await upsert(
            connection,
            "operations_record",
            rows,
            newer=_UPDATED_COLUMNS,
            keep_first=_FIRST_VALUE_COLUMNS,
            unless=_DELETED,
        )
        ids = [record.operation.id for record in newest]
        deleted = models.OperationRecord.filter(id__in=ids, deleted_at__isnull=False)
        gone = {str(row["id"]) for row in await deleted.values("id")}
        states = [state_row(record) for record in newest if record.operation.id not in gone]
        await upsert(connection, "operations_state", states, newer=("operation",))

    async def look_up(self, ids: Iterable[str]) -> RecordLookup:
        """Return the records with these ids, of any user: the gateway decides who may see an operation."""
        requested = list(dict.fromkeys(ids))
        rows = {str(row["id"]): row for row in await models.OperationRecord.filter(id__in=requested).values()}
        states = {row.id: row.operation for row in await models.OperationStateRow.filter(id__in=requested)}
        return RecordLookup(
            records=tuple(to_record(rows[each], states[each]) for each in requested if each in rows and each in states),
            deleted=tuple(each for each in requested if each in rows and rows[each]["deleted_at"] is not None),
        )

    async def list_operations(self, caller: Caller, request: RecordPageRequest) -> RecordPage:
        """Return a page of the caller's operations in the current tenant, or of all members' operations.

        Raises:
            NotSignedIn: the caller has no user or tenant.
            PermissionDenied: the operations of all members require ``operations:administer``.
        """
        user_id, tenant_id = _principal(caller, is_administrator=request.of_all_members)
        connection = current_connection()
        query = OperationListQuery(dialect_of(connection), user_id, tenant_id, request)
        rows: list[dict[str, Any]] = []
        if query.is_search:
            rows = await query.page_of_window().rows(connection)
        if len(rows) <= request.first:
            rows = await query.page().rows(connection)
        page = rows[: request.first]
        total = None
        if request.with_total:
            [counted] = await query.count().rows(connection)
            total = min(int(counted["total"]), MAX_COUNT)
        return RecordPage(
            records=tuple(to_record(row, row["operation"]) for row in page),
            positions=tuple(RecordPosition(key=int(row["sort_key"]), id=row["id"]) for row in page),
            has_next=len(rows) > request.first,
            total=total,
        )

    async def statistics(self, caller: Caller, request: StatisticsRequest) -> OperationStatistics:
        """Return statistics of the operations of all members of the caller's tenant.

        Raises:
            NotSignedIn: the caller has no user or tenant.
            PermissionDenied: statistics require ``operations:administer``.
        """
        user_id, tenant_id = _principal(caller, is_administrator=True)
        connection = current_connection()
        query = StatisticsQuery(dialect_of(connection), user_id, tenant_id, request, self._clock())
        return query.summary(await query.groups().rows(connection), await query.starts().rows(connection))

    async def delete(self, operation_id: str, *, is_known: bool = False) -> None:
        """Mark the operation as deleted and remove its state.

        Args:
            operation_id: the id of the operation.
            is_known: Temporal has the operation, so it is marked even if the record does not have it.

        Raises:
            OperationNotFound: the record does not have the operation, and ``is_known`` is False.
        """
        now = microseconds(self._clock())
        kind = kind_of(operation_id)

        async def mark() -> int:
            rows = models.OperationRecord.filter(id=operation_id)
            marked = await rows.update(
                deleted_at=now, version="", subject=None, search_key=None, target_id=None, retry_of=None
            )
            await models.OperationStateRow.filter(id=operation_id).delete()
            if not marked and is_known and kind is not None:
                await models.OperationRecord.create(
                    id=operation_id,
                    kind=kind,
                    status=OperationStatus.FAILED,
                    version="",
                    user_id="",
                    started_at=now,
                    closed_at=now,
                    written_at=now,
                    deleted_at=now,
                )
                return 1
            return marked

        if not await atomic(mark):
            raise OperationNotFound()

    async def replace(self, record: OperationRecord, *, read_at: datetime | None = None, confirm: bool = False) -> bool:
        """Replace the stored state by the state of Temporal, even if that is older, as after a reset or a restore.

        Args:
            record: the state that Temporal has.
            read_at: the time at which the state was read from Temporal; a row that was written later is not changed.
            confirm: confirm the operation (see ``confirm``) even if the record does not change.

        Returns:
            Whether the record was changed.
        """
        now = self._clock()
        row = record_row(record, now) | {"confirmed_at": microseconds(now)}
        state, stored_start = state_row(record), microseconds(record.operation.started_at)

        async def replace_row() -> bool:
            stored = await models.OperationRecord.select_for_update().get_or_none(id=row["id"])
            if stored is None:
                await self._write_rows([record], now)
                return True
            if (stored.deleted_at is not None and stored.deleted_at >= stored_start) or (
                read_at is not None and stored.written_at >= microseconds(read_at)
            ):
                return False
            if stored.version == row["version"] and stored.status == row["status"]:
                if confirm:
                    await self.confirm([stored.id])
                return False
            is_older = str(row["version"]) < stored.version
            if is_older and stored.written_at >= microseconds((read_at or now) - _PUBLICATION_LEAD):
                return False
            changes = {name: row[name] for name in ("version", "confirmed_at", *_UPDATED_COLUMNS)}
            await models.OperationRecord.filter(id=stored.id).update(**changes)
            await models.OperationStateRow.update_or_create(
                {"version": state["version"], "operation": state["operation"]}, id=stored.id
            )
            return True

        return await atomic(replace_row)

    async def versions(self, ids: Sequence[str]) -> dict[str, StoredVersion]:
        """Return the stored versions of these operations by id."""
        rows = models.OperationRecord.filter(id__in=list(ids))
        return {row.id: StoredVersion.of(row) for row in await rows}

    async def confirm(self, ids: Sequence[str]) -> None:
        """Store that Temporal has these operations."""
        now = microseconds(self._clock())
        await models.OperationRecord.filter(id__in=list(ids)).update(confirmed_at=now, missing_since=None)

    async def unconfirmed(self, since: datetime, *, written_before: datetime, limit: int) -> list[str]:
        """Return open operations that were not confirmed since ``since``, the longest unconfirmed first."""
        rows = (
            await models.OperationRecord.filter(
                closed_at=0,
                deleted_at__isnull=True,
                written_at__lt=microseconds(written_before),
                confirmed_at__lt=microseconds(since),
            )
            .order_by("confirmed_at", "written_at")
            .limit(limit)
            .only("id")
        )
        return [row.id for row in rows]

    async def count_open(self, started_before: datetime) -> dict[str, int]:
        """Return by kind the number of open operations that were started before the given time."""
        rows = (
            await models.OperationRecord.filter(
                closed_at=0, deleted_at__isnull=True, started_at__lt=microseconds(started_before)
            )
            .annotate(operations=Count("id"))
            .group_by("kind")
            .values("kind", "operations")
        )
        return {str(row["kind"]): int(row["operations"]) for row in rows}

    async def mark_missing(self, operation_id: str, timeout: timedelta) -> bool:
        """Store that Temporal does not have an open operation; return True if that has been so for the timeout."""
        now = microseconds(self._clock())
        await models.OperationRecord.filter(id=operation_id, missing_since__isnull=True).update(missing_since=now)
        row = await models.OperationRecord.get_or_none(id=operation_id)
        return row is not None and row.missing_since is not None and now - row.missing_since >= timeout // MICROSECOND

    async def unrepaired(self, limit: int) -> list[Operation]:
        """Return operations of the last seven days with steps that are not undone, the newest first."""
        since = microseconds(self._clock() - timedelta(days=7))
        rows = await (
            models.OperationRecord.filter(needs_repair=True, closed_at__gt=since, deleted_at__isnull=True)
            .order_by("-closed_at")
            .limit(limit)
            .only("id")
        )
        found = await self.look_up([row.id for row in rows])
        return [record.operation for record in found.records]

    async def remove_older_than(self, retention: timedelta, *, limit: int = 1_000) -> int:
        """Remove up to ``limit`` operations that closed longer ago than the retention, and return their number."""
        before = microseconds(self._clock() - retention)

        async def remove() -> int:
            ids = await (
                models.OperationRecord.filter(closed_at__gt=0, closed_at__lt=before)
                .order_by("closed_at")
                .limit(limit)
                .values_list("id", flat=True)
            )
            await models.OperationStateRow.filter(id__in=ids).delete()
            return await models.OperationRecord.filter(id__in=ids).delete()

        return await atomic(remove)


def _principal(caller: Caller, *, is_administrator: bool) -> tuple[str, str]:
    """Return the user and the tenant of the caller. Raises NotSignedIn, PermissionDenied.

    ``is_administrator`` requires the permission to see the operations of all members.
    """
    if caller.user_id is None or caller.tenant_id is None:
        raise NotSignedIn()
    if is_administrator and ADMINISTER not in caller.permissions:
        raise PermissionDenied()
    return caller.user_id, caller.tenant_id


def _newest_of_each(records: Sequence[OperationRecord]) -> list[OperationRecord]:
    newest: dict[str, OperationRecord] = {}
    for record in records:
        newest[record.operation.id] = record.merged_with(newest.get(record.operation.id))
    return list(newest.values())
