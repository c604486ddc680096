"""The lease of the repair: one process at a time repairs the record, and its progress is kept beside the record."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from tortoise.queryset import QuerySet

from activities.operations import models
from activities.operations.mapping import MICROSECOND, microseconds, moment
from contracts.base import utc_now


class LeaseLost(Exception):
    """Another process repairs now: this one was too slow to extend its lease."""


class RepairLease:
    """The lease of one process. The end of the lease, in microseconds, identifies its holder.

    Args:
        duration: how long the lease is valid without being extended; after that any process may acquire it.
    """

    def __init__(self, duration: timedelta, clock: Callable[[], datetime] = utc_now) -> None:
        self._duration = duration
        self._clock = clock
        self._until = 0

    async def acquire(self) -> bool:
        """Whether this process holds the lease from now on."""
        await models.RepairProgress.bulk_create([models.RepairProgress(id=1)], ignore_conflicts=True)
        now = microseconds(self._clock())
        until = now + self._duration // MICROSECOND
        acquired = await models.RepairProgress.filter(id=1, leased_until__lt=now).update(leased_until=until)
        self._until = until if acquired else 0
        return bool(acquired)

    async def keep(self) -> None:
        """Extend the lease if less than half of it is left; nothing happens without a lease.

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
        """The begin of the last complete round of the repair; None before the first."""
        row = await models.RepairProgress.get_or_none(id=1)
        return moment(row.watermark) if row is not None and row.watermark else None

    async def set_watermark(self, began: datetime) -> None:
        """Note that a complete round began then."""
        await models.RepairProgress.bulk_create([models.RepairProgress(id=1)], ignore_conflicts=True)
        await models.RepairProgress.filter(id=1).update(watermark=microseconds(began))

    def _held(self) -> QuerySet[models.RepairProgress]:
        return models.RepairProgress.filter(id=1, leased_until=self._until)
