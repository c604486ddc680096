"""Uploads and downloads by signed URLs: the same rules for a folder and for S3, within bounded memory."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from contracts.base import new_id, utc_now
from contracts.transfer_grants import UploadGrant
from gateway.transfers.limits import TransferLimits
from gateway.transfers.rate import MinimumRate
from gateway.transfers.uploads import UploadReceipt
from infrastructure.signing.secret_keys import SecretKeys
from infrastructure.signing.transfer_tokens import TransferTokenSigner
from infrastructure.storage import FileStorage, open_storage
from resolvers.clients.files import FilesClient
from tests.gateway.transfers.stores import Folder, Store
from tests.gateway.transfers.transferring import (
    MIB,
    TEXT,
    chunked,
    download_path,
    grant,
    registered_url,
    staging_key_of,
    transfer_client,
    upload_url,
    url_registered_at,
)
from tests.servers import HOST

LIMITS = TransferLimits(minimum_rate=MinimumRate(window_seconds=0.2))
PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)


@pytest.fixture
async def client(storage: FileStorage, files: FilesClient) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the transfer routes with a short window for the minimum rate."""
    async with transfer_client(storage, files, LIMITS) as client:
        yield client


async def test_stages_announced_content_with_and_without_content_length(
    client: httpx.AsyncClient, storage: FileStorage
) -> None:
    for content in (TEXT, b"tiny", b""):
        for body in (content, chunked(content)):
            upload_grant = grant(content)
            response = await client.put(await registered_url(upload_grant), content=body)
            assert response.status_code == 200, response.text
            receipt = UploadReceipt.model_validate_json(response.content)
            assert receipt == UploadReceipt(size=len(content), checksum=upload_grant.checksum or "")
            assert await storage.size(staging_key_of(upload_grant)) == len(content)


async def test_repeated_upload_to_the_same_url_changes_nothing(client: httpx.AsyncClient, storage: FileStorage) -> None:
    upload_grant = grant(checksum=False)
    for _ in range(2):
        assert (await client.put(await registered_url(upload_grant), content=TEXT)).status_code == 200
    assert await storage.read(staging_key_of(upload_grant), 0, MIB) == TEXT


@pytest.mark.parametrize(
    ("content", "content_type", "status", "reason"),
    [
        (TEXT + b"!", "text/plain", 413, "more bytes"),
        (TEXT[:-1], "text/plain", 422, "Fewer bytes"),
        (TEXT.swapcase(), "text/plain", 422, "checksum"),
        (TEXT, "image/png", 422, "not of the type"),
    ],
    ids=["too large", "too small", "other bytes", "other type"],
)
@pytest.mark.parametrize("has_content_length", [True, False])
async def test_refuses_content_that_was_not_announced_and_stores_nothing(
    client: httpx.AsyncClient,
    store: Store,
    content: bytes,
    content_type: str,
    status: int,
    reason: str,
    has_content_length: bool,
) -> None:
    upload_grant = grant(content_type=content_type)
    response = await client.put(
        await registered_url(upload_grant), content=content if has_content_length else chunked(content)
    )
    assert response.status_code == status
    (error,) = response.json()["errors"]
    assert error["extensions"]["code"] == "BAD_USER_INPUT"
    assert reason.lower() in error["message"].lower()
    assert store.content() == set()


async def test_refused_upload_keeps_the_earlier_valid_one(client: httpx.AsyncClient, storage: FileStorage) -> None:
    upload_grant = grant()
    assert (await client.put(await registered_url(upload_grant), content=TEXT)).status_code == 200
    assert (await client.put(await registered_url(upload_grant), content=TEXT.upper())).status_code == 422
    assert await storage.read(staging_key_of(upload_grant), 0, MIB) == TEXT


async def test_refuses_expired_and_forged_urls_and_urls_for_the_other_direction(
    client: httpx.AsyncClient, store: Store
) -> None:
    valid_path = upload_url(grant())
    forged = TransferTokenSigner(SecretKeys(b"x" * 32)).upload_path(grant(), utc_now() + timedelta(minutes=1))
    for path in (upload_url(grant(), -timedelta(seconds=1)), forged, valid_path[:-4] + "aaaa", "/uploads/x"):
        assert (await client.put(path, content=TEXT)).status_code == 403
    assert (await client.get(valid_path.replace("uploads", "downloads"))).status_code == 403
    assert (await client.put(download_path("t/k", 1).replace("downloads", "uploads"), content=b"x")).status_code == 403
    assert store.content() == set()


async def test_upload_that_stops_times_out_and_stores_nothing(client: httpx.AsyncClient, store: Store) -> None:
    async def stop_in_the_middle() -> AsyncIterator[bytes]:
        yield TEXT[:10000]
        await asyncio.sleep(5)
        yield TEXT[10000:]

    response = await client.put(await registered_url(grant()), content=stop_in_the_middle())
    assert response.status_code == 504
    assert store.content() == set()


async def test_serves_a_file_as_an_attachment_with_a_sandbox_policy(
    client: httpx.AsyncClient, storage: FileStorage
) -> None:
    page = b"<script>alert(1)</script>" * 100_000
    await storage.save("t/k", chunked(page, 65536))
    path = download_path("t/k", len(page), name='Grüße "all".html', content_type="text/html")
    response = await client.get(path)
    assert response.status_code == 200
    assert response.content == page
    assert response.headers["content-disposition"] == (
        "attachment; filename=\"Gr__e _all_.html\"; filename*=UTF-8''Gr%C3%BC%C3%9Fe%20%22all%22.html"
    )
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in response.headers["content-security-policy"]
    assert response.headers["content-type"].startswith("text/html")
    assert response.headers["content-length"] == str(len(page))
    head_response = await client.head(path)
    assert (head_response.status_code, head_response.content, head_response.headers["content-length"]) == (
        200,
        b"",
        str(len(page)),
    )


async def test_download_of_a_deleted_object_is_not_found(client: httpx.AsyncClient) -> None:
    assert (await client.get(download_path("t/k", 5))).status_code == 404


async def test_memory_stays_bounded_during_a_large_upload_and_download(transfer_server: tuple[str, Store]) -> None:
    url, store = transfer_server
    block, blocks = b"0123456789abcdef" * 65536, 300 if isinstance(store, Folder) else 120  # moto is slow
    digest = hashlib.sha256()
    for _ in range(blocks):
        digest.update(block)

    async def body() -> AsyncIterator[bytes]:
        for _ in range(blocks):
            yield block

    async with httpx.AsyncClient(base_url=url, timeout=120) as client:
        await client.put(
            await url_registered_at(client, grant()), content=TEXT
        )  # loads all modules before the first measurement
        before = int((await client.get("/peak")).text)
        upload_grant = UploadGrant(
            upload_id=new_id("upl"),
            tenant_id=new_id("ten"),
            user_id=new_id("usr"),
            content_type="text/plain",
            size=blocks * MIB,
            checksum=digest.hexdigest(),
        )
        response = await client.put(await url_registered_at(client, upload_grant), content=body())
        assert response.status_code == 200, response.text
        peak_after_upload = int((await client.get("/peak")).text)
        downloaded = hashlib.sha256()
        async with client.stream("GET", download_path(staging_key_of(upload_grant), upload_grant.size)) as download:
            async for piece in download.aiter_raw():
                downloaded.update(piece)
        peak_after_download = int((await client.get("/peak")).text)
    assert downloaded.hexdigest() == upload_grant.checksum
    assert peak_after_upload - before < 60 * MIB, (peak_after_upload - before) / MIB
    assert peak_after_download - before < 60 * MIB, (peak_after_download - before) / MIB


async def test_refuses_an_oversized_body_over_the_network_before_its_end(
    transfer_server: tuple[str, Store],
) -> None:
    url, store = transfer_server
    before = store.content()
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        unfinished_upload = await url_registered_at(client, grant())
        response = await client.put(await url_registered_at(client, grant()), content=TEXT + b"!")
        assert response.status_code == 413
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"PUT {unfinished_upload} HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n"
    writer.write(head.encode())
    for _ in range(2):
        writer.write(b"%x\r\n%s\r\n" % (len(TEXT), TEXT))
    await writer.drain()  # the last chunk is never sent
    status = await asyncio.wait_for(reader.readline(), 10)
    assert b" 413 " in status
    writer.close()
    assert store.content() == before


async def test_disconnect_during_an_upload_stores_nothing(transfer_server: tuple[str, Store]) -> None:
    url, store = transfer_server
    before = store.content()
    host, port = url.removeprefix("http://").split(":")
    upload_grant = grant(TEXT * 1000)
    async with httpx.AsyncClient(base_url=url) as client:
        path = await url_registered_at(client, upload_grant)
    with socket.create_connection((host, int(port))) as connection:
        head = f"PUT {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {upload_grant.size}\r\n\r\n"
        connection.sendall(head.encode() + TEXT * 500)
        await wait_until(lambda: store.content() != before)
    await wait_until(lambda: store.content() == before)
    async with httpx.AsyncClient(base_url=url) as client:
        assert (await client.put(path, content=TEXT * 1000)).status_code == 200


async def wait_until(condition: Callable[[], bool]) -> None:
    """Poll the condition until it holds; raise TimeoutError after ten seconds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the state is in another process
            await asyncio.sleep(0.02)


@pytest.fixture
def hanging_s3(s3_endpoint: str) -> Iterator[FileStorage]:
    """S3 storage whose server accepts connections and never responds."""
    with socket.create_server((HOST, 0)) as server:
        yield open_storage(f"s3://bucket?endpoint=http://{HOST}:{server.getsockname()[1]}&region=eu-central-1")


async def test_responds_503_soon_while_the_storage_hangs(hanging_s3: FileStorage, files: FilesClient) -> None:
    async with (
        asyncio.timeout(5),
        transfer_client(hanging_s3, files, TransferLimits(storage_timeout_seconds=0.2)) as client,
    ):
        content = TEXT * 1000
        responses = [
            await client.put(await registered_url(grant(TEXT)), content=TEXT),
            await client.put(await registered_url(grant(content)), content=chunked(content, MIB)),
            await client.get(download_path("t/k", 5)),
        ]
    assert {(response.status_code, response.json()["errors"][0]["extensions"]["code"]) for response in responses} == {
        (503, "UPSTREAM_UNAVAILABLE")
    }


async def test_responds_503_while_the_folder_cannot_be_written(tmp_path: Path, files: FilesClient) -> None:
    storage = open_storage(str(tmp_path / "objects"))
    (tmp_path / "objects").rmdir()
    (tmp_path / "objects").write_text("a file where the folder was")
    async with transfer_client(storage, files) as client:
        responses = [
            await client.put(await registered_url(grant(TEXT)), content=TEXT),
            await client.get(download_path("t/k", 5)),
        ]
    assert [response.status_code for response in responses] == [503, 503]


def test_default_timeouts_of_transfers() -> None:
    assert (TransferLimits().storage_timeout_seconds, TransferLimits().total_timeout_seconds) == (8.0, 3600.0)
