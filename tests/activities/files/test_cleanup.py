"""What the cleanup removes, and what it leaves to operations that may still finish."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from activities.files import models
from activities.files.cleanup import CleanupReport, FileCleanup
from contracts.errors import FileNotFound, UploadCompleted, UploadNotFound
from contracts.files import StoredFile
from infrastructure.storage import FileStorage, staging_key, storage_key
from infrastructure.tasks import BackgroundTasks
from tests.activities.conftest import Clock
from tests.activities.files.file_fixtures import FileServices, caller, ignore_progress, objects

pytestmark = pytest.mark.usefixtures("any_database")

NOTHING = CleanupReport(files=0, uploads=0, objects=0)
MOMENT = timedelta(minutes=1)
STAGED_RETENTION, UNFINISHED_RETENTION = timedelta(hours=2), timedelta(hours=24)


@pytest.fixture
def clock() -> Clock:
    """The storage dates its objects by the true time, so this clock starts there."""
    clock = Clock()
    clock.now = datetime.now(UTC)
    return clock


async def test_keeps_uploads_that_may_still_be_completed(services: FileServices, clock: Clock, folder: Path) -> None:
    command = await services.upload(caller(), b"waiting")
    clock.advance(UNFINISHED_RETENTION)
    assert await services.cleanup.clean_up() == NOTHING
    assert len(objects(folder)) == 1
    assert await services.create_record(command, "op:record")


async def test_removes_uncompleted_upload(services: FileServices, clock: Clock, folder: Path) -> None:
    sender = caller()
    command = await services.upload(sender, b"forgotten")
    clock.advance(UNFINISHED_RETENTION + timedelta(hours=1) + MOMENT)
    assert await services.cleanup.clean_up() == CleanupReport(files=0, uploads=1, objects=1)
    assert objects(folder) == set()
    with pytest.raises(UploadNotFound):
        await services.files.get_upload(sender, command.upload_id)
    assert await services.cleanup.clean_up() == NOTHING


async def test_removes_only_the_staged_bytes_of_a_completed_upload(services: FileServices, clock: Clock) -> None:
    sender = caller()
    command = await services.upload(sender, b"bytes")
    file_id = await services.complete(command, await services.uploading.validate_file_upload(command, ignore_progress))
    clock.advance(STAGED_RETENTION - MOMENT)
    assert await services.cleanup.clean_up() == NOTHING
    clock.advance(2 * MOMENT)
    assert await services.cleanup.clean_up() == CleanupReport(files=0, uploads=0, objects=1)
    assert await services.storage.size(staging_key(command.tenant_id, command.upload_id)) is None
    assert await services.storage.read(storage_key(command.tenant_id, file_id), 0, 10) == b"bytes"
    clock.advance(10 * UNFINISHED_RETENTION)
    assert await services.cleanup.clean_up() == NOTHING
    assert (await services.files.get_upload(sender, command.upload_id)).file_id == file_id
    with pytest.raises(UploadCompleted):
        await services.uploading.validate_file_upload(command, ignore_progress)


async def test_removes_unpublished_file_with_its_bytes_and_its_usage(
    services: FileServices, clock: Clock, folder: Path
) -> None:
    command = await services.upload(caller(), b"half done")
    file_id = await services.create_record(command, "op:record")
    stored = StoredFile(key="op:store", file_id=file_id, tenant_id=command.tenant_id)
    await services.uploading.upload_to_storage(stored, ignore_progress)
    clock.advance(UNFINISHED_RETENTION - MOMENT)
    assert await services.cleanup.clean_up() == NOTHING
    clock.advance(timedelta(hours=2))
    assert await services.cleanup.clean_up() == CleanupReport(files=1, uploads=1, objects=1)
    assert objects(folder) == set()
    assert await models.File.all().count() == await models.Upload.all().count() == 0
    assert (await models.Usage.get(tenant_id=command.tenant_id)).bytes == 0
    await services.uploading.undo_create_file_record("op:record")
    assert (await models.Usage.get(tenant_id=command.tenant_id)).bytes == 0, "a late undo gives no room twice"
    late = stored.model_copy(update={"key": "late:store"})
    with pytest.raises(FileNotFound):
        await services.uploading.upload_to_storage(late, ignore_progress)


async def test_removes_orphaned_staged_bytes_and_parts_of_failed_writes(
    services: FileServices, clock: Clock, folder: Path
) -> None:
    command = await services.upload(caller(), b"bytes")
    await models.Upload.all().delete()
    [staged] = objects(folder)
    file = folder / storage_key(command.tenant_id, "fil_" + "0" * 32)
    file.parent.mkdir(exist_ok=True)
    for part in (staged.with_name(f"{staged.name}#1"), file.with_name(f"{file.name}#0")):
        part.write_bytes(b"half")
        os.utime(part, (clock.now.timestamp(), clock.now.timestamp()))
    clock.advance(STAGED_RETENTION + MOMENT)
    assert await services.cleanup.clean_up() == CleanupReport(files=0, uploads=0, objects=1)
    assert await services.storage.size(staging_key(command.tenant_id, command.upload_id)) is None
    clock.advance(UNFINISHED_RETENTION)
    assert await services.cleanup.clean_up() == CleanupReport(files=0, uploads=0, objects=2)
    assert objects(folder) == set()


class Stumbling(FileStorage):
    """Fails the first time that it is looked through."""

    def __init__(self, storage: FileStorage) -> None:
        self._inner = storage
        self.looks = 0

    async def staged(self, *, before: datetime) -> AsyncIterator[str]:
        self.looks += 1
        if self.looks == 1:
            raise ConnectionError("The store is away.")
        async for key in self._inner.staged(before=before):
            yield key

    def remove_incomplete_writes(self, *, before: datetime) -> int:
        return self._inner.remove_incomplete_writes(before=before)

    async def remove(self, key: str) -> None:
        await self._inner.remove(key)


async def test_cleanup_continues_after_a_failed_round(services: FileServices, clock: Clock, folder: Path) -> None:
    await services.upload(caller(), b"forgotten")
    clock.advance(UNFINISHED_RETENTION + timedelta(hours=1) + MOMENT)
    storage = Stumbling(services.storage)
    with capture_logs() as logs:
        async with BackgroundTasks() as tasks, asyncio.timeout(20):
            cleanup = FileCleanup(storage, clock)
            tasks.start(cleanup.run(timedelta(seconds=0.02)), name="clean up files")
            while storage.looks < 4:  # noqa: ASYNC110 - it sends no event
                await asyncio.sleep(0.01)
    assert objects(folder) == set()
    assert [log["event"] for log in logs][:2] == ["file_cleanup_failed", "files_cleaned_up"]
