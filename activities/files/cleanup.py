"""Removes what no operation will finish: staged bytes, uploads never completed, files never published."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from activities.files import models
from activities.files.uploading import delete_record
from activities.transactions import atomic
from contracts.base import Contract, utc_now
from infrastructure.storage import FileStorage, storage_key

SETTLED_AFTER = timedelta(hours=2)
"""How long staged bytes stay after they came and after their file was published: then no undo needs them any more."""
FORGOTTEN_AFTER = timedelta(hours=24)
"""Longer than any operation on an upload lasts."""
_AT_ONCE = 100


class CleanupReport(Contract):
    files: int
    uploads: int
    objects: int


class Sweeper:
    """Any number may sweep at once: each removal is harmless where another was quicker."""

    def __init__(self, storage: FileStorage, clock: Callable[[], datetime] = utc_now) -> None:
        self._storage = storage
        self._clock = clock

    async def sweep_regularly(self, every: timedelta = timedelta(minutes=10)) -> None:
        """Sweep until cancelled. Trouble is logged and met again at the next sweep."""
        log = structlog.get_logger(__name__)
        while True:
            try:
                swept = await self.sweep()
                if any(swept.model_dump().values()):
                    log.info("swept files", **swept.model_dump())
            except Exception:
                log.exception("sweeping files failed")
            await asyncio.sleep(every.total_seconds())

    async def sweep(self) -> CleanupReport:
        """Once; how much went."""
        return CleanupReport(
            files=await self._drop_files(), objects=await self._drop_staged(), uploads=await self._drop_uploads()
        )

    async def _drop_files(self) -> int:
        """Records without a reader, their objects first, so that none is left without a record."""
        old = models.File.filter(uploaded_at=None, created_at__lt=self._clock() - FORGOTTEN_AFTER)
        rows = await old.limit(_AT_ONCE)
        for row in rows:
            await self._storage.remove(storage_key(row.tenant_id, row.id))
            await atomic(lambda file_id=row.id: delete_record(file_id))  # type: ignore[misc]
        return len(rows)

    async def _drop_staged(self) -> int:
        now = self._clock()
        removed = await asyncio.to_thread(self._storage.remove_broken_parts, before=now - FORGOTTEN_AFTER)
        async for key in self._storage.staged(before=now - SETTLED_AFTER):
            row = await models.Upload.get_or_none(id=f"upl_{key.rpartition('/')[2].replace('-', '')}")
            if row is None or await self._is_over(row, now):
                await self._storage.remove(key)
                removed += 1
        return removed

    async def _is_over(self, row: models.Upload, now: datetime) -> bool:
        if row.file_id is None:
            return row.expires_at < now - FORGOTTEN_AFTER
        return await models.File.exists(id=row.file_id, uploaded_at__lt=now - SETTLED_AFTER)

    async def _drop_uploads(self) -> int:
        """Never completed ones. The others stay, so that a repeated completion is told what became of them."""
        old = models.Upload.filter(file_id=None, expires_at__lt=self._clock() - FORGOTTEN_AFTER)
        return await old.delete()
