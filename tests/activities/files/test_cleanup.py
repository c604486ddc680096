"""What the sweeper removes, and what it leaves to operations that may still finish."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from activities.files import models
from activities.files.cleanup import CleanupReport, Sweeper
from contracts.errors import FileNotFound, UploadCompleted, UploadNotFound
from contracts.files import StoredFile
from infrastructure.storage import FileStorage, staging_key, storage_key
from infrastructure.tasks import BackgroundTasks
from tests.activities.conftest import Clock
from tests.activities.files.file_fixtures import Desk, caller, objects, unheard

pytestmark = pytest.mark.usefixtures("opened")

NOTHING = CleanupReport(files=0, uploads=0, objects=0)
MOMENT = timedelta(minutes=1)
SETTLED_AFTER, FORGOTTEN_AFTER = timedelta(hours=2), timedelta(hours=24)


@pytest.fixture
def clock() -> Clock:
    """The storage dates its objects by the true time, so this clock starts there."""
    clock = Clock()
    clock.now = datetime.now(UTC)
    return clock


async def test_leaves_what_may_still_be_completed(desk: Desk, clock: Clock, folder: Path) -> None:
    command = await desk.send(caller(), b"waiting")
    clock.pass_by(FORGOTTEN_AFTER)
    assert await desk.sweeper.sweep() == NOTHING
    assert len(objects(folder)) == 1
    assert await desk.record(command, "op:record")


async def test_removes_an_upload_that_nobody_completed(desk: Desk, clock: Clock, folder: Path) -> None:
    sender = caller()
    command = await desk.send(sender, b"forgotten")
    clock.pass_by(FORGOTTEN_AFTER + timedelta(hours=1) + MOMENT)
    assert await desk.sweeper.sweep() == CleanupReport(files=0, uploads=1, objects=1)
    assert objects(folder) == set()
    with pytest.raises(UploadNotFound):
        await desk.files.get_upload(sender, command.upload_id)
    assert await desk.sweeper.sweep() == NOTHING


async def test_removes_the_staged_bytes_of_a_finished_upload_and_nothing_of_the_file(desk: Desk, clock: Clock) -> None:
    sender = caller()
    command = await desk.send(sender, b"bytes")
    file_id = await desk.finish(command, await desk.uploading.validate_file_upload(command, unheard))
    clock.pass_by(SETTLED_AFTER - MOMENT)
    assert await desk.sweeper.sweep() == NOTHING
    clock.pass_by(2 * MOMENT)
    assert await desk.sweeper.sweep() == CleanupReport(files=0, uploads=0, objects=1)
    assert await desk.storage.size(staging_key(command.tenant_id, command.upload_id)) is None
    assert await desk.storage.read(storage_key(command.tenant_id, file_id), 0, 10) == b"bytes"
    clock.pass_by(10 * FORGOTTEN_AFTER)
    assert await desk.sweeper.sweep() == NOTHING
    assert (await desk.files.get_upload(sender, command.upload_id)).file_id == file_id
    with pytest.raises(UploadCompleted):
        await desk.uploading.validate_file_upload(command, unheard)


async def test_removes_a_file_whose_operation_died_with_its_bytes_and_its_room(
    desk: Desk, clock: Clock, folder: Path
) -> None:
    command = await desk.send(caller(), b"half done")
    file_id = await desk.record(command, "op:record")
    stored = StoredFile(key="op:store", file_id=file_id, tenant_id=command.tenant_id)
    await desk.uploading.upload_to_storage(stored, unheard)
    clock.pass_by(FORGOTTEN_AFTER - MOMENT)
    assert await desk.sweeper.sweep() == NOTHING
    clock.pass_by(timedelta(hours=2))
    assert await desk.sweeper.sweep() == CleanupReport(files=1, uploads=1, objects=1)
    assert objects(folder) == set()
    assert await models.File.all().count() == await models.Upload.all().count() == 0
    assert (await models.Usage.get(tenant_id=command.tenant_id)).bytes == 0
    await desk.uploading.delete_file_record("op:record")
    assert (await models.Usage.get(tenant_id=command.tenant_id)).bytes == 0, "a late undo gives no room twice"
    late = stored.model_copy(update={"key": "late:store"})
    with pytest.raises(FileNotFound):
        await desk.uploading.upload_to_storage(late, unheard)


async def test_removes_staged_bytes_that_no_upload_speaks_of_and_parts_of_broken_writes(
    desk: Desk, clock: Clock, folder: Path
) -> None:
    command = await desk.send(caller(), b"bytes")
    await models.Upload.all().delete()
    [staged] = objects(folder)
    file = folder / storage_key(command.tenant_id, "fil_" + "0" * 32)
    file.parent.mkdir(exist_ok=True)
    for part in (staged.with_name(f"{staged.name}#1"), file.with_name(f"{file.name}#0")):
        part.write_bytes(b"half")
        os.utime(part, (clock.now.timestamp(), clock.now.timestamp()))
    clock.pass_by(SETTLED_AFTER + MOMENT)
    assert await desk.sweeper.sweep() == CleanupReport(files=0, uploads=0, objects=1)
    assert await desk.storage.size(staging_key(command.tenant_id, command.upload_id)) is None
    clock.pass_by(FORGOTTEN_AFTER)
    assert await desk.sweeper.sweep() == CleanupReport(files=0, uploads=0, objects=2)
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

    def remove_broken_parts(self, *, before: datetime) -> int:
        return self._inner.remove_broken_parts(before=before)

    async def remove(self, key: str) -> None:
        await self._inner.remove(key)


async def test_sweeps_again_and_again_whatever_one_sweep_runs_into(desk: Desk, clock: Clock, folder: Path) -> None:
    await desk.send(caller(), b"forgotten")
    clock.pass_by(FORGOTTEN_AFTER + timedelta(hours=1) + MOMENT)
    storage = Stumbling(desk.storage)
    with capture_logs() as logs:
        async with BackgroundTasks() as tasks, asyncio.timeout(20):
            sweeper = Sweeper(storage, clock)
            tasks.start(sweeper.sweep_regularly(timedelta(seconds=0.02)), name="sweep")
            while storage.looks < 4:  # noqa: ASYNC110 - it sends no event
                await asyncio.sleep(0.01)
    assert objects(folder) == set()
    assert [log["event"] for log in logs][:2] == ["sweeping files failed", "swept files"]
