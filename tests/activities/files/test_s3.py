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
from tests.activities.files.file_fixtures import Desk, caller, in_pieces, unheard
from tests.s3 import BUCKET, running_s3

pytestmark = pytest.mark.usefixtures("on_postgres")

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


async def put(desk: Desk, content: bytes, announced: bytes) -> UploadFileCommand:
    """Announce some bytes and store these, which the gateway would have refused if they differ."""
    command = await desk.announce(caller(), announced, name="big.txt")
    await desk.stage(command, content)
    return command


async def test_bytes_that_a_client_sent_to_s3_become_a_file_that_is_processed(desk: Desk) -> None:
    command = await put(desk, TEXT, TEXT)
    file_id = await desk.finish(command, await desk.uploading.validate_file_upload(command, unheard))
    viewer = caller(command.tenant_id, user_id=command.user_id)
    [file] = await desk.files.get_files(viewer, [file_id])
    assert (file.size, file.checksum) == (len(TEXT), hashlib.sha256(TEXT).hexdigest())
    assert file.download_url.startswith("/downloads/")


async def test_refuses_what_a_client_sent_to_s3_against_its_word(desk: Desk) -> None:
    for content in (TEXT + b"!", TEXT.upper()):
        command = await put(desk, content, TEXT)
        with pytest.raises(InvalidInput):
            await desk.uploading.validate_file_upload(command, unheard)
        assert await desk.storage.size(staging_key(command.tenant_id, command.upload_id)) is None


async def test_taking_back_removes_the_object_and_keeps_the_staged_bytes(desk: Desk) -> None:
    command = await put(desk, TEXT, TEXT)
    file_id = await desk.record(command, "op:record")
    stored = StoredFile(key="op:store", file_id=file_id, tenant_id=command.tenant_id)
    await desk.uploading.upload_to_storage(stored, unheard)
    assert await desk.storage.size(storage_key(command.tenant_id, file_id)) == len(TEXT)
    for _ in range(2):
        await desk.uploading.remove_from_storage(stored)
        await desk.uploading.delete_file_record("op:record")
    assert await desk.storage.size(storage_key(command.tenant_id, file_id)) is None
    assert await desk.finish(command, await desk.uploading.validate_file_upload(command, unheard))


async def test_the_sweeper_clears_the_staging_area_of_a_bucket(desk: Desk, clock: Clock) -> None:
    command = await put(desk, b"abc", b"abc")
    await desk.finish(command, await desk.uploading.validate_file_upload(command, unheard))
    clock.pass_by(timedelta(hours=2) + timedelta(minutes=1))
    await desk.sweeper.sweep()
    assert await desk.storage.size(staging_key(command.tenant_id, command.upload_id)) is None


async def test_writes_a_stream_larger_than_one_part_and_leaves_nothing_of_a_broken_one(storage: FileStorage) -> None:
    await storage.save("tenant/whole", in_pieces(TEXT))
    assert await storage.read("tenant/whole", len(TEXT) - 3, 100) == TEXT[-3:]

    async def breaking() -> AsyncIterator[bytes]:
        async for piece in in_pieces(TEXT):
            yield piece
        raise InvalidInput("They break off.")

    with pytest.raises(InvalidInput):
        await storage.save("tenant/broken", breaking())
    assert await storage.size("tenant/broken") is None


@pytest.mark.parametrize(
    "url", ["ftp://somewhere", "s3://", "s3://bucket?colour=blue", "s3://bucket?public_endpoint=http://x"]
)
def test_says_what_is_wrong_with_an_address_of_a_storage(url: str) -> None:
    with pytest.raises(ValueError, match="STORAGE_URL"):
        open_storage(url)


async def test_a_plain_path_is_a_folder_that_is_made(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "a" / "b"))
    await storage.save("t/k", in_pieces(b"x"))
    assert await storage.size("t/k") == 1
    await storage.remove("t/k")
    await storage.remove("t/k")
    assert await storage.size("t/k") is None
