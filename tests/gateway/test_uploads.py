"""Bytes in and out under signed addresses: what is let through, what is refused, and that memory stays as it was."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from contracts.base import new_id, utc_now
from contracts.storage import FileStorage, open_storage, staging_key
from contracts.transfers import DownloadGrant, TransferSigner, UploadGrant
from gateway.uploads import TransferLimits, UploadReceipt, upload_routes
from tests.gateway.uploads_server import KEY
from tests.servers import HOST, wait_until
from worker.dev.children import child
from worker.dev.ports import free_port

MIB = 1024 * 1024
TEXT = b"The quick brown fox.\n" * 1000
SIGNER = TransferSigner(KEY)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)


def grant(content: bytes = TEXT, content_type: str = "text/plain", *, checksum: bool = True) -> UploadGrant:
    return UploadGrant(
        upload_id=new_id("upl"),
        tenant_id=new_id("ten"),
        content_type=content_type,
        size=len(content),
        checksum=hashlib.sha256(content).hexdigest() if checksum else None,
    )


def address(leave: UploadGrant, lifetime: timedelta = timedelta(minutes=1)) -> str:
    return SIGNER.upload_path(leave, utc_now() + lifetime)


def link(storage_key: str, size: int, name: str = "n.txt", content_type: str = "text/plain") -> str:
    leave = DownloadGrant(storage_key=storage_key, name=name, content_type=content_type, size=size)
    return SIGNER.download_path(leave, utc_now() + timedelta(minutes=1))


def key_of(leave: UploadGrant) -> str:
    return staging_key(leave.tenant_id, leave.upload_id)


async def chunked(content: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    """Sent without a Content-Length."""
    for start in range(0, len(content), size):
        yield content[start : start + size]


def left_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "objects"


@pytest.fixture
def storage(folder: Path) -> FileStorage:
    return open_storage(str(folder))


@pytest.fixture
async def client(storage: FileStorage) -> AsyncIterator[httpx.AsyncClient]:
    app = Starlette(routes=upload_routes(storage, SIGNER, TransferLimits(silence=0.2)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        yield client


async def test_stages_what_was_announced_however_it_is_cut(client: httpx.AsyncClient, storage: FileStorage) -> None:
    for content in (TEXT, b"tiny", b""):
        for body in (content, chunked(content)):
            leave = grant(content)
            answer = await client.put(address(leave), content=body)
            assert answer.status_code == 200, answer.text
            receipt = UploadReceipt.model_validate_json(answer.content)
            assert receipt == UploadReceipt(size=len(content), checksum=leave.checksum or "")
            assert await storage.size(key_of(leave)) == len(content)


async def test_sending_again_under_the_same_address_changes_nothing(
    client: httpx.AsyncClient, storage: FileStorage
) -> None:
    leave = grant(checksum=False)
    for _ in range(2):
        assert (await client.put(address(leave), content=TEXT)).status_code == 200
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
@pytest.mark.parametrize("length_is_told", [True, False])
async def test_refuses_what_was_not_announced_and_keeps_nothing_of_it(
    client: httpx.AsyncClient,
    folder: Path,
    content: bytes,
    content_type: str,
    status: int,
    why: str,
    length_is_told: bool,
) -> None:
    leave = grant(content_type=content_type)
    answer = await client.put(address(leave), content=content if length_is_told else chunked(content))
    assert answer.status_code == status
    (error,) = answer.json()["errors"]
    assert error["extensions"]["code"] == "BAD_USER_INPUT"
    assert why.lower() in error["message"].lower()
    assert left_in(folder) == []


async def test_a_refused_sending_leaves_the_good_one_before_it(client: httpx.AsyncClient, storage: FileStorage) -> None:
    leave = grant()
    assert (await client.put(address(leave), content=TEXT)).status_code == 200
    assert (await client.put(address(leave), content=TEXT.upper())).status_code == 422
    assert await storage.read(key_of(leave), 0, MIB) == TEXT


async def test_an_address_that_is_stale_forged_or_for_the_other_way_opens_nothing(
    client: httpx.AsyncClient, folder: Path
) -> None:
    fresh = address(grant())
    forged = TransferSigner(b"x" * 32).upload_path(grant(), utc_now() + timedelta(minutes=1))
    for path in (address(grant(), -timedelta(seconds=1)), forged, fresh[:-4] + "aaaa", "/uploads/x"):
        assert (await client.put(path, content=TEXT)).status_code == 403
    assert (await client.get(fresh.replace("uploads", "downloads"))).status_code == 403
    assert (await client.put(link("t/k", 1).replace("downloads", "uploads"), content=b"x")).status_code == 403
    assert left_in(folder) == []


async def test_a_client_that_falls_silent_is_told_so_and_leaves_nothing(
    client: httpx.AsyncClient, folder: Path
) -> None:
    async def halting() -> AsyncIterator[bytes]:
        yield TEXT[:10000]
        await asyncio.sleep(5)
        yield TEXT[10000:]

    answer = await client.put(address(grant()), content=halting())
    assert answer.status_code == 504
    assert left_in(folder) == []


async def test_more_transfers_than_there_is_room_for_are_asked_to_come_again(storage: FileStorage) -> None:
    app = Starlette(routes=upload_routes(storage, SIGNER, TransferLimits(at_once=1)))
    going_on, may_end = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield TEXT[:10000]
        going_on.set()
        await may_end.wait()
        yield TEXT[10000:]

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        first = asyncio.create_task(client.put(address(grant()), content=slow()))
        await going_on.wait()
        second = await client.put(address(grant()), content=TEXT)
        assert (second.status_code, second.headers["retry-after"]) == (429, "1")
        may_end.set()
        assert (await first).status_code == 200
        assert (await client.put(address(grant()), content=TEXT)).status_code == 200


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


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A server's URL and the folder it keeps files in."""
    folder, port = tmp_path_factory.mktemp("served"), free_port(HOST)
    log = folder / "log"
    command = [sys.executable, "-m", "tests.gateway.uploads_server", str(folder / "objects"), f"{HOST}:{port}"]
    with child(command, log=log) as process:
        url = f"http://{HOST}:{port}"
        wait_until(lambda: _answers(port), process, log)
        yield url, folder / "objects"


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://{HOST}:{port}/peak", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


async def test_300_mib_go_in_and_out_with_less_than_60_mib_of_memory(served: tuple[str, Path]) -> None:
    url, _ = served
    block, blocks = b"0123456789abcdef" * 65536, 300
    digest = hashlib.sha256()
    for _ in range(blocks):
        digest.update(block)

    async def body() -> AsyncIterator[bytes]:
        for _ in range(blocks):
            yield block

    async with httpx.AsyncClient(base_url=url, timeout=120) as client:
        await client.put(address(grant()), content=TEXT)  # so that all is loaded that will be
        before = int((await client.get("/peak")).text)
        leave = UploadGrant(
            upload_id=new_id("upl"),
            tenant_id=new_id("ten"),
            content_type="text/plain",
            size=blocks * MIB,
            checksum=digest.hexdigest(),
        )
        answer = await client.put(address(leave), content=body())
        assert answer.status_code == 200, answer.text
        after_in = int((await client.get("/peak")).text)
        back = hashlib.sha256()
        async with client.stream("GET", link(key_of(leave), leave.size)) as download:
            async for piece in download.aiter_raw():
                back.update(piece)
        after_out = int((await client.get("/peak")).text)
    assert back.hexdigest() == leave.checksum
    assert after_in - before < 60 * MIB
    assert after_out - before < 60 * MIB


async def test_over_the_network_too_a_body_that_is_too_long_is_refused_before_it_has_all_come(
    served: tuple[str, Path],
) -> None:
    url, folder = served
    before = set(left_in(folder))
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        answer = await client.put(address(grant()), content=TEXT + b"!")
        assert answer.status_code == 413
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"PUT {address(grant())} HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n"
    writer.write(head.encode())
    for _ in range(2):
        writer.write(b"%x\r\n%s\r\n" % (len(TEXT), TEXT))
    await writer.drain()  # and the end never comes
    status = await asyncio.wait_for(reader.readline(), 10)
    assert b" 413 " in status
    writer.close()
    assert set(left_in(folder)) == before


async def test_a_client_that_vanishes_in_the_middle_leaves_nothing(served: tuple[str, Path]) -> None:
    url, folder = served
    before = set(left_in(folder))
    host, port = url.removeprefix("http://").split(":")
    leave = grant(TEXT * 1000)
    with socket.create_connection((host, int(port))) as connection:
        head = f"PUT {address(leave)} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {leave.size}\r\n\r\n"
        connection.sendall(head.encode() + TEXT * 500)
        await until(lambda: set(left_in(folder)) != before)
    await until(lambda: set(left_in(folder)) == before)
    async with httpx.AsyncClient(base_url=url) as client:
        assert (await client.put(address(leave), content=TEXT * 1000)).status_code == 200


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - another process changes it
            await asyncio.sleep(0.02)
