"""Hostile uploads are refused with the right status and not stored, and hostile images are never decompressed."""

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


def image(kind: str, size: tuple[int, int] = (8, 8)) -> bytes:
    """Return a small image in this format."""
    file = io.BytesIO()
    Image.new("RGB", size).save(file, kind)
    return file.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    """Return a PNG chunk with its checksum."""
    return struct.pack("!I", len(data)) + name + data + struct.pack("!I", zlib.crc32(name + data))


def png(width: int, height: int, *other_chunks: bytes) -> bytes:
    """Return a PNG file with this size in its header and these chunks."""
    header = chunk(b"IHDR", struct.pack("!IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(other_chunks)


def archive() -> bytes:
    """Return a ZIP file whose content is large and whose path leads out of the folder."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("../../etc/passwd", bytes(10_000_000))
    return file.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the storage."""
    return tmp_path / "objects"


@pytest.fixture
def storage(folder: Path) -> FileStorage:
    """A file storage in an empty folder."""
    return open_storage(str(folder))


@pytest.fixture
async def client(storage: FileStorage, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the transfer routes with short time limits."""
    limits = TransferLimits(minimum_rate=MinimumRate(window_seconds=0.2), total_timeout_seconds=1.0)
    async with files_client(await create_sqlite_database(tmp_path)) as files:
        dependencies = TransferDependencies(storage, SIGNER, member, LocalQuota(), limits)
        app = Starlette(routes=transfer_routes(dependencies, lambda _: files))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
            yield client


def grant(size: int = len(TEXT), content_type: str = "text/plain", checksum: str | None = None) -> UploadGrant:
    """Return a grant to upload content of this size."""
    return UploadGrant(
        upload_id=new_id("upl"),
        tenant_id=new_id("ten"),
        user_id=new_id("usr"),
        content_type=content_type,
        size=size,
        checksum=checksum,
    )


def path(upload_grant: UploadGrant, seconds: float = 60, signer: TransferTokenSigner = SIGNER) -> str:
    """Return the URL path of the upload."""
    return signer.upload_path(upload_grant, utc_now() + timedelta(seconds=seconds))


def files_in(folder: Path) -> list[Path]:
    """Return all files below the folder."""
    return [each for each in folder.rglob("*") if each.is_file()]


async def chunks(*parts: bytes, pause: float = 0) -> AsyncIterator[bytes]:
    """Yield the parts, with a pause after each."""
    for part in parts:
        yield part
        await asyncio.sleep(pause)


TEXT_SHA256 = hashlib.sha256(TEXT).hexdigest()
BODIES: list[tuple[str, UploadGrant, Callable[[], Any], dict[str, str], int]] = [
    ("nothing", grant(), lambda: b"", {}, 422),
    ("nothing in pieces", grant(), lambda: chunks(b"", b"", b""), {}, 422),
    ("one byte too few", grant(), lambda: TEXT[:-1], {}, 422),
    ("one byte too many", grant(), lambda: TEXT + b"!", {}, 413),
    ("one byte too many in the last piece", grant(), lambda: chunks(TEXT, b"!"), {}, 413),
    ("anything where nothing was announced", grant(0), lambda: b"x", {}, 413),
    ("a hundred times too many bytes", grant(), lambda: chunks(*[TEXT] * 100), {}, 413),
    ("a Content-Length that is too large", grant(), lambda: TEXT, {"content-length": "999999"}, 413),
    ("a Content-Length that is too small", grant(), lambda: TEXT, {"content-length": "1"}, 422),
    ("a length of five thousand digits", grant(), lambda: TEXT, {"content-length": "9" * 5000}, 413),
    ("another checksum", grant(checksum="0" * 64), lambda: TEXT, {}, 422),
    ("the checksum of other bytes", grant(checksum=TEXT_SHA256), lambda: TEXT.upper(), {}, 422),
    ("a form", grant(len(FORM), "image/png"), lambda: FORM, {"content-type": "multipart/form-data; boundary=x"}, 422),
    ("a page as an image", grant(len(PAGE), "image/png"), lambda: PAGE, {}, 422),
    ("a page as a PDF", grant(len(PAGE), "application/pdf"), lambda: PAGE, {}, 422),
    ("a program as an image", grant(len(ELF), "image/jpeg"), lambda: ELF, {}, 422),
    ("a program as text", grant(len(EXE), "text/plain"), lambda: EXE, {}, 422),
    ("a program as a film", grant(len(ELF), "video/mp4"), lambda: ELF, {}, 422),
    ("an archive as an image", grant(len(archive()), "image/png"), archive, {}, 422),
    ("one image as another", grant(len(image("GIF")), "image/png"), lambda: image("GIF"), {}, 422),
    ("half of a file signature", grant(3, "image/png"), lambda: b"\x89PN", {}, 422),
    ("a file signature in the middle", grant(40, "image/gif"), lambda: PAGE[:34] + b"GIF89a", {}, 422),
    ("zeros as text", grant(100), lambda: bytes(100), {}, 422),
    (
        "compressed text as text",
        grant(len(gzip.compress(TEXT))),
        lambda: gzip.compress(TEXT),
        {"content-encoding": "gzip"},
        422,
    ),
    ("silence in the middle", grant(), lambda: chunks(TEXT[:10], TEXT[10:], pause=0.6), {}, 504),
    ("a byte at a time", grant(), lambda: chunks(*[b"x"] * len(TEXT), pause=0.05), {}, 504),
]


@pytest.mark.parametrize(
    ("upload_grant", "body", "headers", "status"), [case[1:] for case in BODIES], ids=[case[0] for case in BODIES]
)
async def test_refuses_bytes_that_were_not_announced_and_does_not_store_them(
    client: httpx.AsyncClient,
    folder: Path,
    upload_grant: UploadGrant,
    body: Callable[[], Any],
    headers: dict[str, str],
    status: int,
) -> None:
    await register(upload_grant)
    response = await client.put(path(upload_grant), content=body(), headers=headers)
    assert response.status_code == status, response.text
    assert files_in(folder) == []


VALID_PATH = path(grant())
ADDRESSES: list[tuple[str, str, int]] = [
    ("expired", path(grant(), seconds=-1), 403),
    ("signed with another key", path(grant(), signer=TransferTokenSigner(SecretKeys(b"x" * 32))), 403),
    (
        "a download URL",
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
    ("truncated", VALID_PATH[:-1], 403),
    ("extended", VALID_PATH + "A", 403),
    ("changed in the middle", VALID_PATH[:60] + ("A" if VALID_PATH[60] != "A" else "B") + VALID_PATH[61:], 403),
    ("in capitals", "/uploads/" + VALID_PATH.removeprefix("/uploads/").upper(), 403),
    ("two tokens", VALID_PATH + "." + VALID_PATH.removeprefix("/uploads/"), 403),
    ("excessively long", "/uploads/" + "A" * 60_000, 403),
    ("dots", "/uploads/...", 403),
    ("NUL", "/uploads/%00", 403),
    ("a line break", "/uploads/a%0d%0aSet-Cookie:x=1", 403),
    ("bytes that are not UTF-8", "/uploads/%ff%fe%f0", 403),
    ("a parent folder", "/uploads/..%2f..%2fetc%2fpasswd", 404),
    ("no token", "/uploads/", 404),
]


@pytest.mark.parametrize(("address", "status"), [case[1:] for case in ADDRESSES], ids=[case[0] for case in ADDRESSES])
async def test_refuses_uploads_to_invalid_urls(
    client: httpx.AsyncClient, folder: Path, address: str, status: int
) -> None:
    response = await client.put(address, content=TEXT)
    assert response.status_code == status, response.text
    assert files_in(folder) == []


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
async def test_upload_urls_accept_only_put(client: httpx.AsyncClient, folder: Path, method: str) -> None:
    assert (await client.request(method, VALID_PATH, content=TEXT)).status_code == 405
    assert files_in(folder) == []


async def test_concurrent_uploads_to_one_url_store_the_first_and_refuse_the_others(
    client: httpx.AsyncClient, storage: FileStorage
) -> None:
    upload_grant = grant()
    other = TEXT.upper()
    await register(upload_grant)
    responses = await asyncio.gather(*(client.put(path(upload_grant), content=each) for each in (TEXT, other) * 5))
    assert {response.status_code for response in responses} == {200, 409}
    refused = next(response for response in responses if response.status_code == 409)
    assert refused.json()["errors"][0]["extensions"]["code"] == "CONFLICT"
    kept = await storage.read(staging_key(upload_grant.tenant_id, upload_grant.upload_id), 0, len(TEXT))
    assert kept in (TEXT, other)


INVALID_UPLOADS: list[tuple[str, dict[str, Any], str]] = [
    ("no name", {"name": ""}, "name"),
    ("a name of spaces", {"name": "  \t "}, "name"),
    ("a name without end", {"name": "x" * 256}, "name"),
    ("a path", {"name": "../../etc/passwd"}, "name"),
    ("a path of Windows", {"name": "..\\..\\boot.ini"}, "name"),
    ("the folder", {"name": "."}, "name"),
    ("the folder above", {"name": ".."}, "name"),
    ("a line's end in the name", {"name": "a\r\nSet-Cookie: x=1"}, "name"),
    ("NUL in the name", {"name": "a.png\0.exe"}, "name"),
    ("a name with a direction override", {"name": "invoice\u202efdp.exe"}, "name"),
    ("an invisible name", {"name": "\u200b\u200b"}, "name"),
    ("a lone surrogate in the name", {"name": "a\ud800"}, "name"),
    ("no type", {"content_type": ""}, "contentType"),
    ("half a type", {"content_type": "text"}, "contentType"),
    ("a line's end in the type", {"content_type": "text/plain\r\nX: y"}, "contentType"),
    ("a page behind the type", {"content_type": "text/plain<script>"}, "contentType"),
    ("a type without end", {"content_type": "text/" + "x" * 300}, "contentType"),
    ("a negative size", {"size": -1}, "size"),
    ("a size beyond the quota", {"size": 2**62}, "size"),
    ("a checksum of another kind", {"checksum": "d41d8cd98f00b204e9800998ecf8427e"}, "checksum"),
    ("a malformed checksum", {"checksum": "z" * 64}, "checksum"),
]


@pytest.mark.parametrize(
    ("invalid_field", "field"), [case[1:] for case in INVALID_UPLOADS], ids=[case[0] for case in INVALID_UPLOADS]
)
def test_refuses_an_invalid_upload_by_its_field(invalid_field: dict[str, Any], field: str) -> None:
    valid_fields = {"name": "notes.txt", "content_type": "text/plain", "size": 5, "tier": SubscriptionTier.FREE}
    with pytest.raises(InvalidInput) as refused:
        validate_upload(NewUpload.model_construct(**{"checksum": None, **valid_fields, **invalid_field}))
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
    ("half of a JPEG", image("JPEG")[:200]),
    ("a JPEG of wrong markers", b"\xff\xd8\xff" + b"\xff\xe1\xff\xff" * 1000),
    ("half of a GIF", image("GIF")[:15]),
    ("a GIF of huge frames", b"GIF89a" + b"\xff\xff\xff\xff\x80\0\0" + bytes(10)),
    ("a TIFF that goes in circles", b"II*\0\x08\0\0\0\x01\0" + b"\x69\x87\x04\0\x01\0\0\0\x08\0\0\0" + b"\x08\0\0\0"),
    ("a TIFF that points beyond", b"II*\0" + b"\xff" * 60),
    ("half of a WebP", image("WEBP")[:25]),
    ("a WebP of a wrong length", b"RIFF\xff\xff\xff\xffWEBPVP8X" + b"\xff" * 30),
    ("a BMP of a height below nothing", image("BMP")[:22] + struct.pack("<i", -(2**31)) + image("BMP")[26:]),
    ("an archive", archive()),
    ("nothing", b""),
]


@pytest.mark.parametrize("content", [case[1] for case in IMAGES], ids=[case[0] for case in IMAGES])
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns about the malformed images
async def test_reads_a_hostile_image_without_decompressing_it(storage: FileStorage, content: bytes) -> None:
    await storage.save("t/k", chunks(content))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with asyncio.timeout(5):
        metadata = await image_metadata(storage, "t/k", len(content))
    assert metadata is None or (metadata.width > 0 and metadata.height > 0)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024, "in KiB"


@pytest.mark.parametrize("name", ["a\r\nSet-Cookie: x=1", 'a"; filename="b', "a\0b", "../../a", "\u202egpj.exe", "%22"])
async def test_serves_a_file_with_a_hostile_name_under_a_harmless_one(
    client: httpx.AsyncClient, storage: FileStorage, name: str
) -> None:
    await storage.save("t/k", chunks(b"hello"))
    upload_grant = DownloadGrant(
        tenant_id=new_id("ten"),
        user_id=new_id("usr"),
        permission="files:read",
        storage_key="t/k",
        name=name,
        content_type="text/plain",
        size=5,
    )
    response = await client.get(SIGNER.download_path(upload_grant, utc_now() + timedelta(minutes=1)))
    content_disposition = response.headers["content-disposition"]
    assert response.content == b"hello"
    assert content_disposition.isprintable()
    assert content_disposition.count('"') == 2
    assert content_disposition.startswith('attachment; filename="')
    assert "set-cookie" not in response.headers
