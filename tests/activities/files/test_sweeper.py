"""What the sweeper removes, and what it leaves to operations that may still finish."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from activities.files import models
from activities.files.sweeper import FORGOTTEN_AFTER, SETTLED_AFTER, Swept
from contracts.errors import FileNotFound, UploadCompleted, UploadNotFound
from contracts.files import StoredFile
from contracts.storage import staging_key, storage_key
from tests.activities.conftest import Clock
from tests.activities.files.desk import Desk, caller, objects, unheard

pytestmark = pytest.mark.usefixtures("opened")

NOTHING = Swept(files=0, uploads=0, objects=0)
MOMENT = timedelta(minutes=1)


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
    assert await desk.sweeper.sweep() == Swept(files=0, uploads=1, objects=1)
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
    assert await desk.sweeper.sweep() == Swept(files=0, uploads=0, objects=1)
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
    assert await desk.sweeper.sweep() == Swept(files=1, uploads=1, objects=1)
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
    assert await desk.sweeper.sweep() == Swept(files=0, uploads=0, objects=1)
    assert await desk.storage.size(staging_key(command.tenant_id, command.upload_id)) is None
    clock.pass_by(FORGOTTEN_AFTER)
    assert await desk.sweeper.sweep() == Swept(files=0, uploads=0, objects=2)
    assert objects(folder) == set()
