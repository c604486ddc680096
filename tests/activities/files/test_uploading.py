"""How staged bytes become a file: what is refused, that steps can run twice, and that each is taken back."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import timedelta
from pathlib import Path

import pytest

from activities.files import models
from activities.files.quotas import MIB
from contracts.auth import Role
from contracts.base import new_id
from contracts.errors import (
    DomainError,
    FileCorrupted,
    InvalidInput,
    NotSignedIn,
    PermissionDenied,
    StepAlreadyUndone,
    UploadCompleted,
    UploadNotFound,
)
from contracts.files import (
    AccessLevel,
    FileDetails,
    FilePermissions,
    NewFile,
    NewUpload,
    StoredFile,
    UploadFileCommand,
)
from contracts.operations import StepHeartbeat
from contracts.tenants import SubscriptionTier
from contracts.transfer_tokens import UploadGrant
from infrastructure.storage import staging_key, storage_key
from tests.activities.conftest import Clock
from tests.activities.files.file_fixtures import Desk, caller, objects, rows, unheard

pytestmark = pytest.mark.usefixtures("opened")

TEXT = b"one line\nand another\n"


def upload(**changes: object) -> NewUpload:
    plain = NewUpload(name="a.txt", content_type="text/plain", size=3, tier=SubscriptionTier.FREE)
    return plain.model_copy(update=changes)


async def test_grants_the_upload_it_was_asked_for_and_no_other(desk: Desk) -> None:
    sender = caller()
    target = await desk.files.create_upload(sender, upload(content_type="Text/Plain; charset=utf-8", checksum="A" * 64))
    path, _, token = target.url.rpartition("/")
    grant = desk.signer.read(token, UploadGrant)
    assert (path, target.method) == ("/uploads", "PUT")
    assert grant == UploadGrant(
        upload_id=target.id,
        tenant_id=sender.tenant_id or "",
        user_id=sender.user_id or "",
        content_type="text/plain",
        size=3,
        checksum="a" * 64,
    )
    assert (await desk.files.get_upload(sender, target.id)).name == "a.txt"


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("name", {"name": "  "}),
        ("name", {"name": "../../etc/passwd"}),
        ("name", {"name": "a\0b"}),
        ("name", {"name": "x" * 256}),
        ("contentType", {"content_type": "text"}),
        ("contentType", {"content_type": "text/plain\r\nX-Evil: 1"}),
        ("checksum", {"checksum": "not a checksum"}),
        ("size", {"size": -1}),
        ("size", {"size": 10 * MIB + 1}),
    ],
)
async def test_names_the_field_that_is_wrong(desk: Desk, field: str, changes: dict[str, object]) -> None:
    with pytest.raises(InvalidInput) as refusal:
        await desk.files.create_upload(caller(), upload(**changes))
    assert [each.path for each in refusal.value.fields] == [(field,)]
    assert await models.Upload.all().count() == 0


async def test_a_better_tier_takes_larger_files(desk: Desk) -> None:
    size = 10 * MIB + 1
    assert await desk.files.create_upload(caller(), upload(size=size, tier=SubscriptionTier.PROFESSIONAL))


async def test_open_uploads_count_for_the_tenants_limit_until_their_reservation_lapses(
    desk: Desk, clock: Clock
) -> None:
    tenant = new_id("ten")
    for _ in range(10):
        await desk.files.create_upload(caller(tenant), upload(size=10 * MIB))
    with pytest.raises(InvalidInput) as refusal:
        await desk.files.create_upload(caller(tenant), upload(size=1))
    assert refusal.value.fields[0].path == ("size",)
    assert await desk.files.create_upload(caller(), upload(size=1)), "another tenant has its own room"
    clock.pass_by(timedelta(minutes=10))
    assert await desk.files.create_upload(caller(tenant), upload(size=1))


async def test_room_is_taken_exactly_where_records_are_made(desk: Desk) -> None:
    sender = caller()
    command = await desk.send(sender, TEXT)
    await models.Upload.filter(id=command.upload_id).update(tier="FREE")
    most = 100 * MIB
    await models.Usage.filter(tenant_id=sender.tenant_id).update(bytes=most - len(TEXT) + 1)
    before = await rows()
    with pytest.raises(InvalidInput):
        await desk.record(command, "op:record")
    assert await rows() == before
    await models.Usage.filter(tenant_id=sender.tenant_id).update(bytes=most - len(TEXT))
    assert await desk.record(command, "op:record")
    assert (await models.Usage.get(tenant_id=sender.tenant_id)).bytes == most


async def test_who_may_not_write_files_may_not_announce_any(desk: Desk) -> None:
    with pytest.raises(PermissionDenied):
        await desk.files.create_upload(caller(role=Role.GUEST), upload())
    with pytest.raises(NotSignedIn):
        await desk.files.create_upload(caller().model_copy(update={"user_id": None}), upload())


async def test_anothers_upload_is_not_found_nor_completed(desk: Desk) -> None:
    sender = caller()
    command = await desk.send(sender, TEXT)
    colleague = caller(sender.tenant_id)
    stranger = caller(user_id=sender.user_id)
    for other in (colleague, stranger):
        with pytest.raises(UploadNotFound):
            await desk.files.get_upload(other, command.upload_id)
        theirs = UploadFileCommand(
            upload_id=command.upload_id, tenant_id=other.tenant_id or "", user_id=other.user_id or ""
        )
        with pytest.raises(UploadNotFound):
            await desk.uploading.validate_file_upload(theirs, unheard)
    with pytest.raises(UploadNotFound):
        await desk.files.get_upload(sender, "upl_\0")


@pytest.mark.parametrize(
    ("arrived", "content_type"),
    [
        (TEXT + b"more", "text/plain"),
        (TEXT[:-1], "text/plain"),
        (TEXT.swapcase(), "text/plain"),
        (TEXT, "image/png"),
    ],
    ids=["too large", "too small", "other bytes", "other type"],
)
async def test_refuses_bytes_that_are_not_what_was_announced_and_removes_them(
    desk: Desk, arrived: bytes, content_type: str
) -> None:
    command = await desk.announce(caller(), TEXT, content_type=content_type)
    await desk.stage(command, arrived)
    with pytest.raises(InvalidInput) as refusal:
        await desk.uploading.validate_file_upload(command, unheard)
    assert refusal.value.fields[0].path == ("uploadId",)
    assert await desk.storage.size(staging_key(command.tenant_id, command.upload_id)) is None


async def test_refuses_to_complete_what_never_arrived(desk: Desk) -> None:
    command = await desk.announce(caller(), TEXT)
    with pytest.raises(InvalidInput, match="No bytes"):
        await desk.uploading.validate_file_upload(command, unheard)


async def test_takes_an_empty_file(desk: Desk) -> None:
    sender = caller()
    file_id = await desk.keep(sender, b"")
    [file] = await desk.files.get_files(sender, [file_id])
    assert (file.size, file.checksum) == (0, hashlib.sha256(b"").hexdigest())


async def test_a_finished_upload_is_a_file_that_its_owner_sees(desk: Desk, clock: Clock) -> None:
    sender = caller()
    file_id = await desk.keep(sender, TEXT, name="Grüße.txt", access_level=AccessLevel.TENANT)
    [file] = await desk.files.get_files(sender, [file_id])
    assert (file.name, file.content_type, file.size) == ("Grüße.txt", "text/plain", len(TEXT))
    assert file.checksum == hashlib.sha256(TEXT).hexdigest()
    assert (file.access_level, file.owner_id, file.uploaded_at) == (AccessLevel.TENANT, sender.user_id, clock.now)
    key = storage_key(file.tenant_id, file.id)
    assert await desk.storage.read(key, 0, 1000) == TEXT


async def test_every_step_run_twice_is_one_effect(desk: Desk) -> None:
    sender = caller()
    command = await desk.send(sender, TEXT)
    first, second = await desk.record(command, "op:record"), None
    new = NewFile(key="op:record", checksum=hashlib.sha256(TEXT).hexdigest(), **command.model_dump())
    second = (await desk.uploading.create_file_record(new)).file_id
    assert first == second
    stored = StoredFile(key="op:store", file_id=first, tenant_id=command.tenant_id)
    details = FileDetails(
        key="op:details", file_id=first, tenant_id=command.tenant_id, name="n", content_type="text/plain"
    )
    shown = FilePermissions(key="op:show", file_id=first, tenant_id=command.tenant_id, access_level=AccessLevel.TENANT)
    for _ in range(2):
        await desk.uploading.upload_to_storage(stored, unheard)
        await desk.uploading.update_file_metadata(details)
        await desk.uploading.set_file_permissions(shown)
    assert (await models.Usage.get(tenant_id=command.tenant_id)).bytes == len(TEXT)
    assert len(await desk.files.get_files(sender, [first])) == 1


async def test_taken_back_newest_first_nothing_is_left_but_the_staged_bytes(desk: Desk, folder: Path) -> None:
    sender = caller()
    command = await desk.send(sender, TEXT)
    before = await rows(), objects(folder)
    file_id = await desk.record(command, "op:record")
    stored = StoredFile(key="op:store", file_id=file_id, tenant_id=command.tenant_id)
    await desk.uploading.upload_to_storage(stored, unheard)
    details = FileDetails(
        key="op:details", file_id=file_id, tenant_id=command.tenant_id, name="n", content_type="text/plain"
    )
    await desk.uploading.update_file_metadata(details)
    shown = FilePermissions(
        key="op:show", file_id=file_id, tenant_id=command.tenant_id, access_level=AccessLevel.TENANT
    )
    await desk.uploading.set_file_permissions(shown)
    for _ in range(2):
        await desk.uploading.restore_file_permissions("op:show")
        assert await desk.files.get_files(sender, [file_id]) == []
        await desk.uploading.restore_file_metadata("op:details")
        await desk.uploading.remove_from_storage(stored)
        await desk.uploading.delete_file_record("op:record")
    assert (await rows(), objects(folder)) == before
    again = await desk.uploading.validate_file_upload(command, unheard)
    assert await desk.finish(command, again), "another operation may complete the upload"


async def test_an_undo_that_comes_before_its_step_keeps_it_from_happening(desk: Desk, folder: Path) -> None:
    command = await desk.send(caller(), TEXT)
    file_id = await desk.record(command, "op:record")
    stored = StoredFile(key="op:store", file_id=file_id, tenant_id=command.tenant_id)
    await desk.uploading.remove_from_storage(stored)
    with pytest.raises(StepAlreadyUndone):
        await desk.uploading.upload_to_storage(stored, unheard)
    assert await desk.storage.size(storage_key(command.tenant_id, file_id)) is None
    await desk.uploading.delete_file_record("other:record")
    new = NewFile(key="other:record", checksum="0" * 64, **command.model_dump())
    with pytest.raises(StepAlreadyUndone):
        await desk.uploading.create_file_record(new)


async def test_removes_an_object_whose_step_died_before_it_was_noted(desk: Desk) -> None:
    command = await desk.send(caller(), TEXT)
    file_id = await desk.record(command, "op:record")
    key = storage_key(command.tenant_id, file_id)
    await desk.storage.copy(staging_key(command.tenant_id, command.upload_id), key)
    await desk.uploading.remove_from_storage(StoredFile(key="op:store", file_id=file_id, tenant_id=command.tenant_id))
    assert await desk.storage.size(key) is None


async def test_one_upload_becomes_one_file_however_many_complete_it_at_once(desk: Desk) -> None:
    command = await desk.send(caller(), TEXT)
    outcomes = await asyncio.gather(
        *(desk.record(command, f"op{index}:record") for index in range(8)), return_exceptions=True
    )
    assert sum(isinstance(each, str) for each in outcomes) == 1
    assert all(isinstance(each, (str, UploadCompleted)) for each in outcomes), outcomes
    assert await models.File.all().count() == 1
    with pytest.raises(UploadCompleted):
        await desk.uploading.validate_file_upload(command, unheard)


async def test_bytes_replaced_after_they_were_checked_are_not_stored(desk: Desk) -> None:
    command = await desk.send(caller(), TEXT)
    file_id = await desk.record(command, "op:record")
    await desk.stage(command, TEXT.upper())
    stored = StoredFile(key="op:store", file_id=file_id, tenant_id=command.tenant_id)
    with pytest.raises(FileCorrupted):
        await desk.uploading.upload_to_storage(stored, unheard)
    assert await desk.storage.size(storage_key(command.tenant_id, file_id)) is None


async def test_a_step_on_a_file_of_another_tenant_finds_none(desk: Desk) -> None:
    command = await desk.send(caller(), TEXT)
    file_id = await desk.record(command, "op:record")
    stored = StoredFile(key="op:store", file_id=file_id, tenant_id=new_id("ten"))
    with pytest.raises(DomainError, match="no such file"):
        await desk.uploading.upload_to_storage(stored, unheard)


async def test_says_how_far_the_check_is_and_never_goes_back(desk: Desk) -> None:
    heard: list[float] = []

    def hear(progress: StepHeartbeat) -> None:
        heard.append(progress.fraction)

    command = await desk.send(caller(), b"\xff" * (3 * MIB), content_type="application/octet-stream")
    await desk.uploading.validate_file_upload(command, hear)
    assert heard == sorted(heard)
    assert (len(heard), heard[-1]) == (3, 1.0)
    heard.clear()
    await desk.uploading.validate_file_upload(command, hear, reached=0.5)
    assert heard == [0.5, 2 / 3, 1.0], "a new try reads anew, but says no less than the one before"


async def test_an_address_takes_bytes_for_an_hour(desk: Desk, clock: Clock) -> None:
    target = await desk.files.create_upload(caller(), upload())
    assert target.expires_at == clock.now + timedelta(hours=1)
    token = target.url.rpartition("/")[2]
    clock.pass_by(timedelta(minutes=59, seconds=59))
    assert desk.signer.read(token, UploadGrant).upload_id == target.id
    clock.pass_by(timedelta(seconds=1))
    with pytest.raises(PermissionDenied):
        desk.signer.read(token, UploadGrant)
