"""Hostile uploads: refused with the right status, nothing kept, and images that would blow up are never unpacked."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import resource
import struct
import zipfile
import zlib
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from starlette.applications import Starlette

from activities.files.file_analysis import image_metadata
from activities.files.validation import validate_upload
from contracts.base import new_id, utc_now
from contracts.errors import InvalidInput
from contracts.files import NewUpload
from contracts.tenants import SubscriptionTier
from contracts.transfer_grants import DownloadGrant, UploadGrant
from gateway.transfers.dependencies import TransferDependencies
from gateway.transfers.limits import TransferLimits
from gateway.transfers.rate import MinimumRate
from gateway.transfers.routes import transfer_routes
from infrastructure.limits.quota import LocalQuota
from infrastructure.signing.secret_keys import SecretKeys
from infrastructure.signing.transfer_tokens import TransferTokenSigner
from infrastructure.storage import FileStorage, open_storage, staging_key
from tests.databases import create_sqlite_database
from tests.gateway.transfers.files_service import SIGNER, files_client, member, register

TEXT = b"The quick brown fox.\n" * 50
PAGE = b"<!doctype html><script>alert(1)</script>"
ELF = b"\x7fELF\x02\x01\x01" + bytes(200)
EXE = b"MZ\x90\x00" + bytes(200)
FORM = b'--x\r\nContent-Disposition: form-data; name="f"; filename="../../x"\r\n\r\nhello\r\n--x--\r\n'


def picture(kind: str, size: tuple[int, int] = (8, 8)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size).save(file, kind)
    return file.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack("!I", len(data)) + name + data + struct.pack("!I", zlib.crc32(name + data))


def png(width: int, height: int, *rest: bytes) -> bytes:
    head = chunk(b"IHDR", struct.pack("!IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(rest)


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("../../etc/passwd", bytes(10_000_000))
    return file.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "objects"


@pytest.fixture
def storage(folder: Path) -> FileStorage:
    return open_storage(str(folder))


@pytest.fixture
async def client(storage: FileStorage, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    limits = TransferLimits(minimum_rate=MinimumRate(window_seconds=0.2), total_timeout_seconds=1.0)
    async with files_client(await create_sqlite_database(tmp_path)) as files:
        dependencies = TransferDependencies(storage, SIGNER, member, LocalQuota(), limits)
        app = Starlette(routes=transfer_routes(dependencies, lambda _: files))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
            yield client


def grant(size: int = len(TEXT), content_type: str = "text/plain", checksum: str | None = None) -> UploadGrant:
    return UploadGrant(
        upload_id=new_id("upl"),
        tenant_id=new_id("ten"),
        user_id=new_id("usr"),
        content_type=content_type,
        size=size,
        checksum=checksum,
    )


def path(leave: UploadGrant, seconds: float = 60, signer: TransferTokenSigner = SIGNER) -> str:
    return signer.upload_path(leave, utc_now() + timedelta(seconds=seconds))


def left_in(folder: Path) -> list[Path]:
    return [each for each in folder.rglob("*") if each.is_file()]


async def pieces(*parts: bytes, pause: float = 0) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
        await asyncio.sleep(pause)


SHA = hashlib.sha256(TEXT).hexdigest()
BODIES: list[tuple[str, UploadGrant, Callable[[], Any], dict[str, str], int]] = [
    ("nothing", grant(), lambda: b"", {}, 422),
    ("nothing in pieces", grant(), lambda: pieces(b"", b"", b""), {}, 422),
    ("one byte too few", grant(), lambda: TEXT[:-1], {}, 422),
    ("one byte too many", grant(), lambda: TEXT + b"!", {}, 413),
    ("one byte too many in the last piece", grant(), lambda: pieces(TEXT, b"!"), {}, 413),
    ("anything where nothing was announced", grant(0), lambda: b"x", {}, 413),
    ("a hundred times too much", grant(), lambda: pieces(*[TEXT] * 100), {}, 413),
    ("a length that lies upwards", grant(), lambda: TEXT, {"content-length": "999999"}, 413),
    ("a length that lies downwards", grant(), lambda: TEXT, {"content-length": "1"}, 422),
    ("a length of five thousand digits", grant(), lambda: TEXT, {"content-length": "9" * 5000}, 413),
    ("another checksum", grant(checksum="0" * 64), lambda: TEXT, {}, 422),
    ("the checksum of other bytes", grant(checksum=SHA), lambda: TEXT.upper(), {}, 422),
    ("a form", grant(len(FORM), "image/png"), lambda: FORM, {"content-type": "multipart/form-data; boundary=x"}, 422),
    ("a page as an image", grant(len(PAGE), "image/png"), lambda: PAGE, {}, 422),
    ("a page as a PDF", grant(len(PAGE), "application/pdf"), lambda: PAGE, {}, 422),
    ("a program as an image", grant(len(ELF), "image/jpeg"), lambda: ELF, {}, 422),
    ("a program as text", grant(len(EXE), "text/plain"), lambda: EXE, {}, 422),
    ("a program as a film", grant(len(ELF), "video/mp4"), lambda: ELF, {}, 422),
    ("an archive as an image", grant(len(archive()), "image/png"), archive, {}, 422),
    ("one image as another", grant(len(picture("GIF")), "image/png"), lambda: picture("GIF"), {}, 422),
    ("half of a mark", grant(3, "image/png"), lambda: b"\x89PN", {}, 422),
    ("a mark in the middle", grant(40, "image/gif"), lambda: PAGE[:34] + b"GIF89a", {}, 422),
    ("zeros as text", grant(100), lambda: bytes(100), {}, 422),
    (
        "packed text as text",
        grant(len(gzip.compress(TEXT))),
        lambda: gzip.compress(TEXT),
        {"content-encoding": "gzip"},
        422,
    ),
    ("silence in the middle", grant(), lambda: pieces(TEXT[:10], TEXT[10:], pause=0.6), {}, 504),
    ("a byte at a time", grant(), lambda: pieces(*[b"x"] * len(TEXT), pause=0.05), {}, 504),
]


@pytest.mark.parametrize(
    ("leave", "body", "headers", "status"), [case[1:] for case in BODIES], ids=[case[0] for case in BODIES]
)
async def test_bytes_that_are_not_what_was_announced_are_refused_and_not_kept(
    client: httpx.AsyncClient,
    folder: Path,
    leave: UploadGrant,
    body: Callable[[], Any],
    headers: dict[str, str],
    status: int,
) -> None:
    await register(leave)
    answer = await client.put(path(leave), content=body(), headers=headers)
    assert answer.status_code == status, answer.text
    assert left_in(folder) == []


GOOD = path(grant())
ADDRESSES: list[tuple[str, str, int]] = [
    ("one that is over", path(grant(), seconds=-1), 403),
    ("one of another key", path(grant(), signer=TransferTokenSigner(SecretKeys(b"x" * 32))), 403),
    (
        "one of a download",
        SIGNER.download_path(
            DownloadGrant(
                tenant_id=new_id("ten"),
                user_id=new_id("usr"),
                permission="files:read",
                storage_key="t/k",
                name="n",
                content_type="text/plain",
                size=5,
            ),
            utc_now() + timedelta(60),
        ).replace("downloads", "uploads"),
        403,
    ),
    ("one that was cut", GOOD[:-1], 403),
    ("one that was made longer", GOOD + "A", 403),
    ("one whose middle was changed", GOOD[:60] + ("A" if GOOD[60] != "A" else "B") + GOOD[61:], 403),
    ("one in capitals", "/uploads/" + GOOD.removeprefix("/uploads/").upper(), 403),
    ("two in one", GOOD + "." + GOOD.removeprefix("/uploads/"), 403),
    ("one without end", "/uploads/" + "A" * 60_000, 403),
    ("dots", "/uploads/...", 403),
    ("NUL", "/uploads/%00", 403),
    ("a line's end", "/uploads/a%0d%0aSet-Cookie:x=1", 403),
    ("letters of no alphabet", "/uploads/%ff%fe%f0", 403),
    ("a way up", "/uploads/..%2f..%2fetc%2fpasswd", 404),
    ("no token", "/uploads/", 404),
]


@pytest.mark.parametrize(("address", "status"), [case[1:] for case in ADDRESSES], ids=[case[0] for case in ADDRESSES])
async def test_an_address_that_was_not_given_out_for_it_takes_nothing(
    client: httpx.AsyncClient, folder: Path, address: str, status: int
) -> None:
    answer = await client.put(address, content=TEXT)
    assert answer.status_code == status, answer.text
    assert left_in(folder) == []


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
async def test_an_address_to_put_at_is_for_nothing_else(client: httpx.AsyncClient, folder: Path, method: str) -> None:
    assert (await client.request(method, GOOD, content=TEXT)).status_code == 405
    assert left_in(folder) == []


async def test_a_url_used_by_several_at_once_takes_the_bytes_of_the_first_and_refuses_the_others(
    client: httpx.AsyncClient, storage: FileStorage
) -> None:
    leave = grant()
    other = TEXT.upper()
    await register(leave)
    answers = await asyncio.gather(*(client.put(path(leave), content=each) for each in (TEXT, other) * 5))
    assert {answer.status_code for answer in answers} == {200, 409}
    refused = next(answer for answer in answers if answer.status_code == 409)
    assert refused.json()["errors"][0]["extensions"]["code"] == "CONFLICT"
    kept = await storage.read(staging_key(leave.tenant_id, leave.upload_id), 0, len(TEXT))
    assert kept in (TEXT, other)


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("no name", {"name": ""}, "name"),
    ("a name of spaces", {"name": "  \t "}, "name"),
    ("a name without end", {"name": "x" * 256}, "name"),
    ("a path", {"name": "../../etc/passwd"}, "name"),
    ("a path of Windows", {"name": "..\\..\\boot.ini"}, "name"),
    ("the folder", {"name": "."}, "name"),
    ("the folder above", {"name": ".."}, "name"),
    ("a line's end in the name", {"name": "a\r\nSet-Cookie: x=1"}, "name"),
    ("NUL in the name", {"name": "a.png\0.exe"}, "name"),
    ("a name that turns round", {"name": "invoice\u202efdp.exe"}, "name"),
    ("a name that shows nothing", {"name": "\u200b\u200b"}, "name"),
    ("half a letter in the name", {"name": "a\ud800"}, "name"),
    ("no type", {"content_type": ""}, "contentType"),
    ("half a type", {"content_type": "text"}, "contentType"),
    ("a line's end in the type", {"content_type": "text/plain\r\nX: y"}, "contentType"),
    ("a page behind the type", {"content_type": "text/plain<script>"}, "contentType"),
    ("a type without end", {"content_type": "text/" + "x" * 300}, "contentType"),
    ("less than nothing", {"size": -1}, "size"),
    ("more than there is room for", {"size": 2**62}, "size"),
    ("a checksum of another kind", {"checksum": "d41d8cd98f00b204e9800998ecf8427e"}, "checksum"),
    ("a checksum that is none", {"checksum": "z" * 64}, "checksum"),
]


@pytest.mark.parametrize(("wrong", "field"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_an_announcement_that_is_wrong_is_refused_by_its_field(wrong: dict[str, Any], field: str) -> None:
    right = {"name": "notes.txt", "content_type": "text/plain", "size": 5, "tier": SubscriptionTier.FREE}
    with pytest.raises(InvalidInput) as refused:
        validate_upload(NewUpload.model_construct(**{"checksum": None, **right, **wrong}))
    assert [each.path for each in refused.value.fields] == [(field,)]


IMAGES: list[tuple[str, bytes]] = [
    ("two thousand million pixels", png(2**31 - 1, 2**31 - 1)),
    ("a hundred thousand by as much", png(100_000, 100_000, chunk(b"IDAT", zlib.compress(bytes(10_000))))),
    ("no width", png(0, 10)),
    ("no head", b"\x89PNG\r\n\x1a\n"),
    ("a head of another size", b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", b"\0")),
    ("a wrong sum", png(8, 8)[:-4] + b"\0\0\0\0"),
    ("a packed text without end", png(8, 8, chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(50_000_000))))),
    ("a profile without end", png(8, 8, chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(50_000_000))))),
    ("a chunk longer than the file", png(8, 8) + struct.pack("!I", 2**31 - 1) + b"IDAT"),
    ("half of a JPEG", picture("JPEG")[:200]),
    ("a JPEG of wrong markers", b"\xff\xd8\xff" + b"\xff\xe1\xff\xff" * 1000),
    ("half of a GIF", picture("GIF")[:15]),
    ("a GIF of huge frames", b"GIF89a" + b"\xff\xff\xff\xff\x80\0\0" + bytes(10)),
    ("a TIFF that goes in circles", b"II*\0\x08\0\0\0\x01\0" + b"\x69\x87\x04\0\x01\0\0\0\x08\0\0\0" + b"\x08\0\0\0"),
    ("a TIFF that points beyond", b"II*\0" + b"\xff" * 60),
    ("half of a WebP", picture("WEBP")[:25]),
    ("a WebP of a wrong length", b"RIFF\xff\xff\xff\xffWEBPVP8X" + b"\xff" * 30),
    ("a BMP of a height below nothing", picture("BMP")[:22] + struct.pack("<i", -(2**31)) + picture("BMP")[26:]),
    ("an archive", archive()),
    ("nothing", b""),
]


@pytest.mark.parametrize("content", [case[1] for case in IMAGES], ids=[case[0] for case in IMAGES])
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about what is wrong with them
async def test_a_hostile_image_is_looked_at_without_being_unpacked(storage: FileStorage, content: bytes) -> None:
    await storage.save("t/k", pieces(content))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with asyncio.timeout(5):
        found = await image_metadata(storage, "t/k", len(content))
    assert found is None or (found.width > 0 and found.height > 0)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024, "in KiB"


@pytest.mark.parametrize("name", ["a\r\nSet-Cookie: x=1", 'a"; filename="b', "a\0b", "../../a", "\u202egpj.exe", "%22"])
async def test_a_file_of_a_hostile_name_is_given_out_under_a_harmless_one(
    client: httpx.AsyncClient, storage: FileStorage, name: str
) -> None:
    await storage.save("t/k", pieces(b"hello"))
    leave = DownloadGrant(
        tenant_id=new_id("ten"),
        user_id=new_id("usr"),
        permission="files:read",
        storage_key="t/k",
        name=name,
        content_type="text/plain",
        size=5,
    )
    answer = await client.get(SIGNER.download_path(leave, utc_now() + timedelta(minutes=1)))
    told = answer.headers["content-disposition"]
    assert answer.content == b"hello"
    assert told.isprintable()
    assert told.count('"') == 2
    assert told.startswith('attachment; filename="')
    assert "set-cookie" not in answer.headers
