"""Uploads and downloads by signed URLs follow the same rules on a folder and on S3, within bounded memory."""

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
    address,
    announced,
    announced_to,
    chunked,
    gateway,
    grant,
    key_of,
    link,
)
from tests.servers import HOST

LIMITS = TransferLimits(minimum_rate=MinimumRate(window_seconds=0.2))
PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)


@pytest.fixture
async def client(storage: FileStorage, files: FilesClient) -> AsyncIterator[httpx.AsyncClient]:
    async with gateway(storage, files, LIMITS) as client:
        yield client


async def test_stages_what_was_announced_however_it_is_cut(client: httpx.AsyncClient, storage: FileStorage) -> None:
    for content in (TEXT, b"tiny", b""):
        for body in (content, chunked(content)):
            leave = grant(content)
            answer = await client.put(await announced(leave), content=body)
            assert answer.status_code == 200, answer.text
            receipt = UploadReceipt.model_validate_json(answer.content)
            assert receipt == UploadReceipt(size=len(content), checksum=leave.checksum or "")
            assert await storage.size(key_of(leave)) == len(content)


async def test_sending_again_under_the_same_address_changes_nothing(
    client: httpx.AsyncClient, storage: FileStorage
) -> None:
    leave = grant(checksum=False)
    for _ in range(2):
        assert (await client.put(await announced(leave), content=TEXT)).status_code == 200
    assert await storage.read(key_of(leave), 0, MIB) == TEXT


@pytest.mark.parametrize(
    ("content", "content_type", "status", "why"),
    [
        (TEXT + b"!", "text/plain", 413, "more bytes"),
        (TEXT[:-1], "text/plain", 422, "Fewer bytes"),
        (TEXT.swapcase(), "text/plain", 422, "checksum"),
        (TEXT, "image/png", 422, "not of the type"),
    ],
    ids=["too large", "too small", "other bytes", "other type"],
)
@pytest.mark.parametrize("has_content_length", [True, False])
async def test_refuses_what_was_not_announced_and_keeps_nothing_of_it(
    client: httpx.AsyncClient,
    store: Store,
    content: bytes,
    content_type: str,
    status: int,
    why: str,
    has_content_length: bool,
) -> None:
    leave = grant(content_type=content_type)
    answer = await client.put(await announced(leave), content=content if has_content_length else chunked(content))
    assert answer.status_code == status
    (error,) = answer.json()["errors"]
    assert error["extensions"]["code"] == "BAD_USER_INPUT"
    assert why.lower() in error["message"].lower()
    assert store.content() == set()


async def test_a_refused_sending_leaves_the_good_one_before_it(client: httpx.AsyncClient, storage: FileStorage) -> None:
    leave = grant()
    assert (await client.put(await announced(leave), content=TEXT)).status_code == 200
    assert (await client.put(await announced(leave), content=TEXT.upper())).status_code == 422
    assert await storage.read(key_of(leave), 0, MIB) == TEXT


async def test_an_address_that_is_stale_forged_or_for_the_other_way_opens_nothing(
    client: httpx.AsyncClient, store: Store
) -> None:
    fresh = address(grant())
    forged = TransferTokenSigner(SecretKeys(b"x" * 32)).upload_path(grant(), utc_now() + timedelta(minutes=1))
    for path in (address(grant(), -timedelta(seconds=1)), forged, fresh[:-4] + "aaaa", "/uploads/x"):
        assert (await client.put(path, content=TEXT)).status_code == 403
    assert (await client.get(fresh.replace("uploads", "downloads"))).status_code == 403
    assert (await client.put(link("t/k", 1).replace("downloads", "uploads"), content=b"x")).status_code == 403
    assert store.content() == set()


async def test_a_client_that_falls_silent_is_told_so_and_leaves_nothing(
    client: httpx.AsyncClient, store: Store
) -> None:
    async def halting() -> AsyncIterator[bytes]:
        yield TEXT[:10000]
        await asyncio.sleep(5)
        yield TEXT[10000:]

    answer = await client.put(await announced(grant()), content=halting())
    assert answer.status_code == 504
    assert store.content() == set()


async def test_gives_a_file_out_as_an_attachment_that_no_browser_opens(
    client: httpx.AsyncClient, storage: FileStorage
) -> None:
    page = b"<script>alert(1)</script>" * 100_000
    await storage.save("t/k", chunked(page, 65536))
    path = link("t/k", len(page), name='Grüße "all".html', content_type="text/html")
    answer = await client.get(path)
    assert answer.status_code == 200
    assert answer.content == page
    assert answer.headers["content-disposition"] == (
        "attachment; filename=\"Gr__e _all_.html\"; filename*=UTF-8''Gr%C3%BC%C3%9Fe%20%22all%22.html"
    )
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-length"] == str(len(page))
    told = await client.head(path)
    assert (told.status_code, told.content, told.headers["content-length"]) == (200, b"", str(len(page)))


async def test_a_link_to_what_is_gone_is_not_found(client: httpx.AsyncClient) -> None:
    assert (await client.get(link("t/k", 5))).status_code == 404


async def test_memory_stays_bounded_while_a_large_file_goes_in_and_out(served: tuple[str, Store]) -> None:
    url, store = served
    block, blocks = b"0123456789abcdef" * 65536, 300 if isinstance(store, Folder) else 120  # moto is slow
    digest = hashlib.sha256()
    for _ in range(blocks):
        digest.update(block)

    async def body() -> AsyncIterator[bytes]:
        for _ in range(blocks):
            yield block

    async with httpx.AsyncClient(base_url=url, timeout=120) as client:
        await client.put(await announced_to(client, grant()), content=TEXT)  # so that all is loaded that will be
        before = int((await client.get("/peak")).text)
        leave = UploadGrant(
            upload_id=new_id("upl"),
            tenant_id=new_id("ten"),
            user_id=new_id("usr"),
            content_type="text/plain",
            size=blocks * MIB,
            checksum=digest.hexdigest(),
        )
        answer = await client.put(await announced_to(client, leave), content=body())
        assert answer.status_code == 200, answer.text
        after_in = int((await client.get("/peak")).text)
        back = hashlib.sha256()
        async with client.stream("GET", link(key_of(leave), leave.size)) as download:
            async for piece in download.aiter_raw():
                back.update(piece)
        after_out = int((await client.get("/peak")).text)
    assert back.hexdigest() == leave.checksum
    assert after_in - before < 60 * MIB, (after_in - before) / MIB
    assert after_out - before < 60 * MIB, (after_out - before) / MIB


async def test_over_the_network_too_a_body_that_is_too_long_is_refused_before_it_has_all_come(
    served: tuple[str, Store],
) -> None:
    url, store = served
    before = store.content()
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        unfinished = await announced_to(client, grant())
        answer = await client.put(await announced_to(client, grant()), content=TEXT + b"!")
        assert answer.status_code == 413
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"PUT {unfinished} HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n"
    writer.write(head.encode())
    for _ in range(2):
        writer.write(b"%x\r\n%s\r\n" % (len(TEXT), TEXT))
    await writer.drain()  # and the end never comes
    status = await asyncio.wait_for(reader.readline(), 10)
    assert b" 413 " in status
    writer.close()
    assert store.content() == before


async def test_a_client_that_vanishes_in_the_middle_leaves_nothing(served: tuple[str, Store]) -> None:
    url, store = served
    before = store.content()
    host, port = url.removeprefix("http://").split(":")
    leave = grant(TEXT * 1000)
    async with httpx.AsyncClient(base_url=url) as client:
        path = await announced_to(client, leave)
    with socket.create_connection((host, int(port))) as connection:
        head = f"PUT {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {leave.size}\r\n\r\n"
        connection.sendall(head.encode() + TEXT * 500)
        await until(lambda: store.content() != before)
    await until(lambda: store.content() == before)
    async with httpx.AsyncClient(base_url=url) as client:
        assert (await client.put(path, content=TEXT * 1000)).status_code == 200


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - another process changes it
            await asyncio.sleep(0.02)


@pytest.fixture
def hanging_s3(s3_endpoint: str) -> Iterator[FileStorage]:
    """S3 whose server takes connections and never answers."""
    with socket.create_server((HOST, 0)) as server:
        yield open_storage(f"s3://bucket?endpoint=http://{HOST}:{server.getsockname()[1]}&region=eu-central-1")


async def test_answers_503_soon_while_the_storage_hangs(hanging_s3: FileStorage, files: FilesClient) -> None:
    async with asyncio.timeout(5), gateway(hanging_s3, files, TransferLimits(storage_timeout_seconds=0.2)) as client:
        content = TEXT * 1000
        answers = [
            await client.put(await announced(grant(TEXT)), content=TEXT),
            await client.put(await announced(grant(content)), content=chunked(content, MIB)),
            await client.get(link("t/k", 5)),
        ]
    assert {(answer.status_code, answer.json()["errors"][0]["extensions"]["code"]) for answer in answers} == {
        (503, "UPSTREAM_UNAVAILABLE")
    }


async def test_answers_503_while_the_folder_cannot_be_written(tmp_path: Path, files: FilesClient) -> None:
    storage = open_storage(str(tmp_path / "objects"))
    (tmp_path / "objects").rmdir()
    (tmp_path / "objects").write_text("a file where the folder was")
    async with gateway(storage, files) as client:
        answers = [await client.put(await announced(grant(TEXT)), content=TEXT), await client.get(link("t/k", 5))]
    assert [answer.status_code for answer in answers] == [503, 503]


def test_a_transfer_waits_for_the_storage_for_eight_seconds_and_lasts_an_hour_at_most() -> None:
    assert (TransferLimits().storage_timeout_seconds, TransferLimits().total_timeout_seconds) == (8.0, 3600.0)
