"""Cleanup of files that no operation will finish: staged bytes, uncompleted uploads and unpublished files."""

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

STAGED_RETENTION = timedelta(hours=2)
"""Time for which staged bytes are kept after their arrival and after their file was published; no undo needs them
after that time."""
UNFINISHED_RETENTION = timedelta(hours=24)
"""Time after which an unfinished upload or file is removed; longer than any operation on an upload lasts."""
_BATCH_SIZE = 100


class CleanupReport(Contract):
    """The numbers of removed file records, uploads and stored objects."""

    files: int
    uploads: int
    objects: int


class FileCleanup:
    """Removes unfinished files and uploads. Several processes may run it at the same time."""

    def __init__(self, storage: FileStorage, clock: Callable[[], datetime] = utc_now) -> None:
        self._storage = storage
        self._clock = clock

    async def run(self, interval: timedelta = timedelta(minutes=10)) -> None:
        """Clean up at an interval, until cancelled. A failure is logged, and the next round repeats the work."""
        log = structlog.get_logger(__name__)
        while True:
            try:
                report = await self.clean_up()
                if any(report.model_dump().values()):
                    log.info("files_cleaned_up", **report.model_dump())
            except Exception:
                log.exception("file_cleanup_failed")
            await asyncio.sleep(interval.total_seconds())

    async def clean_up(self) -> CleanupReport:
        """Clean up once and return what was removed."""
        return CleanupReport(
            files=await self._remove_files(),
            objects=await self._remove_staged_bytes(),
            uploads=await self._remove_uploads(),
        )

    async def _remove_files(self) -> int:
        """Remove unpublished files: first the stored object, then the record, so that no object is left without one."""
        old = models.File.filter(uploaded_at=None, created_at__lt=self._clock() - UNFINISHED_RETENTION)
        rows = await old.limit(_BATCH_SIZE)
        for row in rows:
            await self._storage.remove(storage_key(row.tenant_id, row.id))
            await atomic(lambda file_id=row.id: delete_record(file_id))  # type: ignore[misc]
        return len(rows)

    async def _remove_staged_bytes(self) -> int:
        """Remove staged bytes that no upload or file needs."""
        now = self._clock()
        removed = await asyncio.to_thread(self._storage.remove_incomplete_writes, before=now - UNFINISHED_RETENTION)
        async for key in self._storage.staged(before=now - STAGED_RETENTION):
            row = await models.Upload.get_or_none(id=f"upl_{key.rpartition('/')[2].replace('-', '')}")
            if row is None or await self._is_unneeded(row, now):
                await self._storage.remove(key)
                removed += 1
        return removed

    async def _is_unneeded(self, row: models.Upload, now: datetime) -> bool:
        if row.file_id is None:
            return row.expires_at < now - UNFINISHED_RETENTION
        return await models.File.exists(id=row.file_id, uploaded_at__lt=now - STAGED_RETENTION)

    async def _remove_uploads(self) -> int:
        """Remove uploads without a file. Completed uploads are kept, so that a repeated completion finds its file."""
        old = models.Upload.filter(file_id=None, expires_at__lt=self._clock() - UNFINISHED_RETENTION)
        return await old.delete()
