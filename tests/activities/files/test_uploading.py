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
from contracts.transfer_grants import UploadGrant
from infrastructure.storage import staging_key, storage_key
from tests.activities.conftest import Clock
from tests.activities.files.file_fixtures import FileServices, caller, ignore_progress, objects, rows

pytestmark = pytest.mark.usefixtures("any_database")

TEXT = b"one line\nand another\n"


def upload(**changes: object) -> NewUpload:
    plain = NewUpload(name="a.txt", content_type="text/plain", size=3, tier=SubscriptionTier.FREE)
    return plain.model_copy(update=changes)


async def test_upload_link_grants_exactly_the_announced_upload(services: FileServices) -> None:
    sender = caller()
    target = await services.files.create_upload(
        sender, upload(content_type="Text/Plain; charset=utf-8", checksum="A" * 64)
    )
    path, _, token = target.url.rpartition("/")
    grant = services.signer.read(token, UploadGrant)
    assert (path, target.method) == ("/uploads", "PUT")
    assert grant == UploadGrant(
        upload_id=target.id,
        tenant_id=sender.tenant_id or "",
        user_id=sender.user_id or "",
        content_type="text/plain",
        size=3,
        checksum="a" * 64,
    )
    assert (await services.files.get_upload(sender, target.id)).name == "a.txt"


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
async def test_invalid_fields_are_named(services: FileServices, field: str, changes: dict[str, object]) -> None:
    with pytest.raises(InvalidInput) as refusal:
        await services.files.create_upload(caller(), upload(**changes))
    assert [each.path for each in refusal.value.fields] == [(field,)]
    assert await models.Upload.all().count() == 0


async def test_higher_tier_accepts_larger_files(services: FileServices) -> None:
    size = 10 * MIB + 1
    assert await services.files.create_upload(caller(), upload(size=size, tier=SubscriptionTier.PROFESSIONAL))


async def test_open_uploads_count_until_their_reservation_expires(services: FileServices, clock: Clock) -> None:
    tenant = new_id("ten")
    for _ in range(10):
        await services.files.create_upload(caller(tenant), upload(size=10 * MIB))
    with pytest.raises(InvalidInput) as refusal:
        await services.files.create_upload(caller(tenant), upload(size=1))
    assert refusal.value.fields[0].path == ("size",)
    assert await services.files.create_upload(caller(), upload(size=1)), "another tenant has its own room"
    clock.advance(timedelta(minutes=10))
    assert await services.files.create_upload(caller(tenant), upload(size=1))


async def test_storage_usage_changes_with_file_records_only(services: FileServices) -> None:
    sender = caller()
    command = await services.upload(sender, TEXT)
    await models.Upload.filter(id=command.upload_id).update(tier="FREE")
    most = 100 * MIB
    await models.Usage.filter(tenant_id=sender.tenant_id).update(bytes=most - len(TEXT) + 1)
    before = await rows()
    with pytest.raises(InvalidInput):
        await services.create_record(command, "op:record")
    assert await rows() == before
    await models.Usage.filter(tenant_id=sender.tenant_id).update(bytes=most - len(TEXT))
    assert await services.create_record(command, "op:record")
    assert (await models.Usage.get(tenant_id=sender.tenant_id)).bytes == most


async def test_announcement_requires_the_write_permission(services: FileServices) -> None:
    with pytest.raises(PermissionDenied):
        await services.files.create_upload(caller(role=Role.GUEST), upload())
    with pytest.raises(NotSignedIn):
        await services.files.create_upload(caller().model_copy(update={"user_id": None}), upload())


async def test_upload_of_another_user_is_not_found(services: FileServices) -> None:
    sender = caller()
    command = await services.upload(sender, TEXT)
    colleague = caller(sender.tenant_id)
    stranger = caller(user_id=sender.user_id)
    for other in (colleague, stranger):
        with pytest.raises(UploadNotFound):
            await services.files.get_upload(other, command.upload_id)
        theirs = UploadFileCommand(
            upload_id=command.upload_id, tenant_id=other.tenant_id or "", user_id=other.user_id or ""
        )
        with pytest.raises(UploadNotFound):
            await services.uploading.validate_file_upload(theirs, ignore_progress)
    with pytest.raises(UploadNotFound):
        await services.files.get_upload(sender, "upl_\0")


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
async def test_rejects_and_removes_bytes_that_differ_from_the_announcement(
    services: FileServices, arrived: bytes, content_type: str
) -> None:
    command = await services.announce(caller(), TEXT, content_type=content_type)
    await services.store_staged_bytes(command, arrived)
    with pytest.raises(InvalidInput) as refusal:
        await services.uploading.validate_file_upload(command, ignore_progress)
    assert refusal.value.fields[0].path == ("uploadId",)
    assert await services.storage.size(staging_key(command.tenant_id, command.upload_id)) is None


async def test_completion_without_bytes_is_rejected(services: FileServices) -> None:
    command = await services.announce(caller(), TEXT)
    with pytest.raises(InvalidInput, match="No bytes"):
        await services.uploading.validate_file_upload(command, ignore_progress)


async def test_empty_file_can_be_uploaded(services: FileServices) -> None:
    sender = caller()
    file_id = await services.create_file(sender, b"")
    [file] = await services.files.get_files(sender, [file_id])
    assert (file.size, file.checksum) == (0, hashlib.sha256(b"").hexdigest())


async def test_completed_upload_is_a_file_visible_to_its_owner(services: FileServices, clock: Clock) -> None:
    sender = caller()
    file_id = await services.create_file(sender, TEXT, name="Grüße.txt", access_level=AccessLevel.TENANT)
    [file] = await services.files.get_files(sender, [file_id])
    assert (file.name, file.content_type, file.size) == ("Grüße.txt", "text/plain", len(TEXT))
    assert file.checksum == hashlib.sha256(TEXT).hexdigest()
    assert (file.access_level, file.owner_id, file.uploaded_at) == (AccessLevel.TENANT, sender.user_id, clock.now)
    key = storage_key(file.tenant_id, file.id)
    assert await services.storage.read(key, 0, 1000) == TEXT


async def test_repeated_steps_take_effect_once(services: FileServices) -> None:
    sender = caller()
    command = await services.upload(sender, TEXT)
    first, second = await services.create_record(command, "op:record"), None
    new = NewFile(key="op:record", checksum=hashlib.sha256(TEXT).hexdigest(), **command.model_dump())
    second = (await services.uploading.create_file_record(new)).file_id
    assert first == second
    stored = StoredFile(key="op:store", file_id=first, tenant_id=command.tenant_id)
    details = FileDetails(
        key="op:details", file_id=first, tenant_id=command.tenant_id, name="n", content_type="text/plain"
    )
    shown = FilePermissions(key="op:show", file_id=first, tenant_id=command.tenant_id, access_level=AccessLevel.TENANT)
    for _ in range(2):
        await services.uploading.upload_to_storage(stored, ignore_progress)
        await services.uploading.update_file_metadata(details)
        await services.uploading.set_file_permissions(shown)
    assert (await models.Usage.get(tenant_id=command.tenant_id)).bytes == len(TEXT)
    assert len(await services.files.get_files(sender, [first])) == 1


async def test_undos_leave_only_the_staged_bytes(services: FileServices, folder: Path) -> None:
    sender = caller()
    command = await services.upload(sender, TEXT)
    before = await rows(), objects(folder)
    file_id = await services.create_record(command, "op:record")
    stored = StoredFile(key="op:store", file_id=file_id, tenant_id=command.tenant_id)
    await services.uploading.upload_to_storage(stored, ignore_progress)
    details = FileDetails(
        key="op:details", file_id=file_id, tenant_id=command.tenant_id, name="n", content_type="text/plain"
    )
    await services.uploading.update_file_metadata(details)
    shown = FilePermissions(
        key="op:show", file_id=file_id, tenant_id=command.tenant_id, access_level=AccessLevel.TENANT
    )
    await services.uploading.set_file_permissions(shown)
    for _ in range(2):
        await services.uploading.undo_set_file_permissions("op:show")
        assert await services.files.get_files(sender, [file_id]) == []
        await services.uploading.undo_update_file_metadata("op:details")
        await services.uploading.undo_upload_to_storage(stored)
        await services.uploading.undo_create_file_record("op:record")
    assert (await rows(), objects(folder)) == before
    again = await services.uploading.validate_file_upload(command, ignore_progress)
    assert await services.complete(command, again), "another operation may complete the upload"


async def test_undo_before_a_step_prevents_it(services: FileServices, folder: Path) -> None:
    command = await services.upload(caller(), TEXT)
    file_id = await services.create_record(command, "op:record")
    stored = StoredFile(key="op:store", file_id=file_id, tenant_id=command.tenant_id)
    await services.uploading.undo_upload_to_storage(stored)
    with pytest.raises(StepAlreadyUndone):
        await services.uploading.upload_to_storage(stored, ignore_progress)
    assert await services.storage.size(storage_key(command.tenant_id, file_id)) is None
    await services.uploading.undo_create_file_record("other:record")
    new = NewFile(key="other:record", checksum="0" * 64, **command.model_dump())
    with pytest.raises(StepAlreadyUndone):
        await services.uploading.create_file_record(new)


async def test_undo_removes_an_object_of_an_unrecorded_step(services: FileServices) -> None:
    command = await services.upload(caller(), TEXT)
    file_id = await services.create_record(command, "op:record")
    key = storage_key(command.tenant_id, file_id)
    await services.storage.copy(staging_key(command.tenant_id, command.upload_id), key)
    await services.uploading.undo_upload_to_storage(
        StoredFile(key="op:store", file_id=file_id, tenant_id=command.tenant_id)
    )
    assert await services.storage.size(key) is None


async def test_concurrent_completions_create_one_file(services: FileServices) -> None:
    command = await services.upload(caller(), TEXT)
    outcomes = await asyncio.gather(
        *(services.create_record(command, f"op{index}:record") for index in range(8)), return_exceptions=True
    )
    assert sum(isinstance(each, str) for each in outcomes) == 1
    assert all(isinstance(each, (str, UploadCompleted)) for each in outcomes), outcomes
    assert await models.File.all().count() == 1
    with pytest.raises(UploadCompleted):
        await services.uploading.validate_file_upload(command, ignore_progress)


async def test_bytes_replaced_after_the_validation_are_not_stored(services: FileServices) -> None:
    command = await services.upload(caller(), TEXT)
    file_id = await services.create_record(command, "op:record")
    await services.store_staged_bytes(command, TEXT.upper())
    stored = StoredFile(key="op:store", file_id=file_id, tenant_id=command.tenant_id)
    with pytest.raises(FileCorrupted):
        await services.uploading.upload_to_storage(stored, ignore_progress)
    assert await services.storage.size(storage_key(command.tenant_id, file_id)) is None


async def test_file_of_another_tenant_is_not_found_by_steps(services: FileServices) -> None:
    command = await services.upload(caller(), TEXT)
    file_id = await services.create_record(command, "op:record")
    stored = StoredFile(key="op:store", file_id=file_id, tenant_id=new_id("ten"))
    with pytest.raises(DomainError, match="no such file"):
        await services.uploading.upload_to_storage(stored, ignore_progress)


async def test_validation_reports_progress_that_never_decreases(services: FileServices) -> None:
    heard: list[float] = []

    def hear(progress: StepHeartbeat) -> None:
        heard.append(progress.fraction)

    command = await services.upload(caller(), b"\xff" * (3 * MIB), content_type="application/octet-stream")
    await services.uploading.validate_file_upload(command, hear)
    assert heard == sorted(heard)
    assert (len(heard), heard[-1]) == (3, 1.0)
    heard.clear()
    await services.uploading.validate_file_upload(command, hear, min_fraction=0.5)
    assert heard == [0.5, 2 / 3, 1.0], "a new try reads anew, but says no less than the one before"


async def test_upload_link_is_valid_for_an_hour(services: FileServices, clock: Clock) -> None:
    target = await services.files.create_upload(caller(), upload())
    assert target.expires_at == clock.now + timedelta(hours=1)
    token = target.url.rpartition("/")[2]
    clock.advance(timedelta(minutes=59, seconds=59))
    assert services.signer.read(token, UploadGrant).upload_id == target.id
    clock.advance(timedelta(seconds=1))
    with pytest.raises(PermissionDenied):
        services.signer.read(token, UploadGrant)
