"""The lease of the record's repair, which lets one process repair at a time, and the progress of the repair."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from tortoise.queryset import QuerySet

from activities.operations import models
from activities.operations.mapping import MICROSECOND, microseconds, moment
from contracts.base import utc_now


class LeaseLost(Exception):
    """Another process has acquired the lease, because this process did not extend it in time."""


class RepairLease:
    """The lease of one process, stored in the database. Its end in microseconds identifies its holder.

    Args:
        duration: the validity of the lease without an extension; after that, any process may acquire it.
    """

    def __init__(self, duration: timedelta, clock: Callable[[], datetime] = utc_now) -> None:
        self._duration = duration
        self._clock = clock
        self._until = 0

    async def acquire(self) -> bool:
        """Try to acquire the lease, and return whether this process holds it now."""
        await models.RepairProgress.bulk_create([models.RepairProgress(id=1)], ignore_conflicts=True)
        now = microseconds(self._clock())
        until = now + self._duration // MICROSECOND
        acquired = await models.RepairProgress.filter(id=1, leased_until__lt=now).update(leased_until=until)
        self._until = until if acquired else 0
        return bool(acquired)

    async def extend(self) -> None:
        """Extend the lease if less than half of its duration is left. Has no effect without a lease.

        Raises:
            LeaseLost: another process has acquired it.
        """
        now = microseconds(self._clock())
        duration = self._duration // MICROSECOND
        if not self._until or self._until - now > duration // 2:
            return
        if not await self._held().update(leased_until=now + duration):
            self._until = 0
            raise LeaseLost("the lease of the repair was lost")
        self._until = now + duration

    async def release(self, *, free_at: datetime | None = None) -> None:
        """Release the lease: any process may acquire it now, or from ``free_at`` on. Has no effect without a lease."""
        if self._until:
            await self._held().update(leased_until=0 if free_at is None else microseconds(free_at))
            self._until = 0

    async def watermark(self) -> datetime | None:
        """Return the begin of the last complete round of the repair; None before the first one."""
        row = await models.RepairProgress.get_or_none(id=1)
        return moment(row.watermark) if row is not None and row.watermark else None

    async def set_watermark(self, began: datetime) -> None:
        """Store the begin of a round that is complete now."""
        await models.RepairProgress.bulk_create([models.RepairProgress(id=1)], ignore_conflicts=True)
        await models.RepairProgress.filter(id=1).update(watermark=microseconds(began))

    def _held(self) -> QuerySet[models.RepairProgress]:
        return models.RepairProgress.filter(id=1, leased_until=self._until)
