"""The services on S3 do what they do on a folder."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from contracts.errors import InvalidInput
from contracts.files import StoredFile, UploadFileCommand
from infrastructure.storage import FileStorage, open_storage, staging_key, storage_key
from tests.activities.conftest import Clock
from tests.activities.files.file_fixtures import FileServices, caller, ignore_progress, in_chunks
from tests.s3 import BUCKET, running_s3

pytestmark = pytest.mark.usefixtures("postgres_database")

MIB = 1024 * 1024
LINES = b"a line of five words\n"
TEXT = LINES * (6 * MIB // len(LINES))


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_s3(tmp_path_factory.mktemp("s3")) as endpoint:
        yield endpoint


@pytest.fixture
def storage(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> FileStorage:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    return open_storage(f"s3://{BUCKET}/files?endpoint={endpoint}&region=eu-central-1")


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.now = datetime.now(UTC)
    return clock


async def put(services: FileServices, content: bytes, announced: bytes) -> UploadFileCommand:
    """Announce some bytes and store these, which the gateway would have refused if they differ."""
    command = await services.announce(caller(), announced, name="big.txt")
    await services.store_staged_bytes(command, content)
    return command


async def test_bytes_uploaded_to_s3_become_a_processed_file(services: FileServices) -> None:
    command = await put(services, TEXT, TEXT)
    file_id = await services.complete(command, await services.uploading.validate_file_upload(command, ignore_progress))
    viewer = caller(command.tenant_id, user_id=command.user_id)
    [file] = await services.files.get_files(viewer, [file_id])
    assert (file.size, file.checksum) == (len(TEXT), hashlib.sha256(TEXT).hexdigest())
    assert file.download_url.startswith("/downloads/")


async def test_bytes_in_s3_that_differ_from_the_announcement_are_rejected(services: FileServices) -> None:
    for content in (TEXT + b"!", TEXT.upper()):
        command = await put(services, content, TEXT)
        with pytest.raises(InvalidInput):
            await services.uploading.validate_file_upload(command, ignore_progress)
        assert await services.storage.size(staging_key(command.tenant_id, command.upload_id)) is None


async def test_undo_removes_the_object_and_keeps_the_staged_bytes(services: FileServices) -> None:
    command = await put(services, TEXT, TEXT)
    file_id = await services.create_record(command, "op:record")
    stored = StoredFile(key="op:store", file_id=file_id, tenant_id=command.tenant_id)
    await services.uploading.upload_to_storage(stored, ignore_progress)
    assert await services.storage.size(storage_key(command.tenant_id, file_id)) == len(TEXT)
    for _ in range(2):
        await services.uploading.undo_upload_to_storage(stored)
        await services.uploading.undo_create_file_record("op:record")
    assert await services.storage.size(storage_key(command.tenant_id, file_id)) is None
    assert await services.complete(command, await services.uploading.validate_file_upload(command, ignore_progress))


async def test_cleanup_removes_staged_bytes_of_a_bucket(services: FileServices, clock: Clock) -> None:
    command = await put(services, b"abc", b"abc")
    await services.complete(command, await services.uploading.validate_file_upload(command, ignore_progress))
    clock.advance(timedelta(hours=2) + timedelta(minutes=1))
    await services.cleanup.clean_up()
    assert await services.storage.size(staging_key(command.tenant_id, command.upload_id)) is None


async def test_multipart_write_succeeds_and_a_failed_one_leaves_nothing(storage: FileStorage) -> None:
    await storage.save("tenant/whole", in_chunks(TEXT))
    assert await storage.read("tenant/whole", len(TEXT) - 3, 100) == TEXT[-3:]

    async def breaking() -> AsyncIterator[bytes]:
        async for piece in in_chunks(TEXT):
            yield piece
        raise InvalidInput("They break off.")

    with pytest.raises(InvalidInput):
        await storage.save("tenant/broken", breaking())
    assert await storage.size("tenant/broken") is None


@pytest.mark.parametrize(
    "url", ["ftp://somewhere", "s3://", "s3://bucket?colour=blue", "s3://bucket?public_endpoint=http://x"]
)
def test_invalid_storage_url_is_reported(url: str) -> None:
    with pytest.raises(ValueError, match="STORAGE_URL"):
        open_storage(url)


async def test_plain_path_is_a_folder_that_is_created(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "a" / "b"))
    await storage.save("t/k", in_chunks(b"x"))
    assert await storage.size("t/k") == 1
    await storage.remove("t/k")
    await storage.remove("t/k")
    assert await storage.size("t/k") is None
