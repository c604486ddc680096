"""Upload and download grants, their URLs, and HTTP clients of the transfer routes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.types import Message

from contracts.base import new_id, utc_now
from contracts.transfer_grants import DownloadGrant, UploadGrant
from gateway.transfers.dependencies import TransferDependencies
from gateway.transfers.limits import TransferLimits
from gateway.transfers.routes import transfer_routes
from infrastructure.limits.quota import LocalQuota, Quota
from infrastructure.storage import FileStorage, staging_key
from resolvers.clients.files import FilesClient
from tests.gateway.transfers.files_service import SIGNER, member, register

MIB = 1024 * 1024
TEXT = b"The quick brown fox.\n" * 1000


def grant(content: bytes = TEXT, content_type: str = "text/plain", *, checksum: bool = True) -> UploadGrant:
    """Return a grant to upload this content."""
    return UploadGrant(
        upload_id=new_id("upl"),
        tenant_id=new_id("ten"),
        user_id=new_id("usr"),
        content_type=content_type,
        size=len(content),
        checksum=hashlib.sha256(content).hexdigest() if checksum else None,
    )


async def registered_url(upload_grant: UploadGrant) -> str:
    """Register the upload with the files service and return its URL."""
    await register(upload_grant)
    return upload_url(upload_grant)


def upload_url(upload_grant: UploadGrant, lifetime: timedelta = timedelta(minutes=1)) -> str:
    """Return the URL of the upload with this lifetime."""
    return SIGNER.upload_path(upload_grant, utc_now() + lifetime)


def download_path(storage_key: str, size: int, name: str = "n.txt", content_type: str = "text/plain") -> str:
    """Return the path of a download of the object."""
    download_grant = DownloadGrant(
        tenant_id=new_id("ten"),
        user_id=new_id("usr"),
        permission="files:read",
        storage_key=storage_key,
        name=name,
        content_type=content_type,
        size=size,
    )
    return SIGNER.download_path(download_grant, utc_now() + timedelta(minutes=5))


def download_request(path: str) -> Request:
    """Return a request for the path of a download, to call the endpoint without its routes."""
    return Request(
        {
            "type": "http",
            "method": "GET",
            "path_params": {"token": path.rpartition("/")[2]},
            "headers": [],
            "client": ("192.0.2.1", 1),
            "asgi": {"spec_version": "2.4"},
        }
    )


async def receive_nothing() -> Message:
    """Wait for a message of a client that stays connected and sends nothing."""
    await asyncio.sleep(60)
    raise AssertionError


async def store_zeros(storage: FileStorage, key: str, size: int, parts: int = 1) -> None:
    """Store an object of zero bytes, whose size is a multiple of ``parts``."""

    async def zeros() -> AsyncIterator[bytes]:
        for _ in range(parts):
            yield bytes(size // parts)

    await storage.save(key, zeros())


def staging_key_of(upload_grant: UploadGrant) -> str:
    """Return the key under which the upload is staged."""
    return staging_key(upload_grant.tenant_id, upload_grant.upload_id)


def transfer_client(
    storage: FileStorage, files: FilesClient, limits: TransferLimits | None = None, quota: Quota | None = None
) -> httpx.AsyncClient:
    """Return an HTTP client of the transfer routes in this process."""
    dependencies = TransferDependencies(storage, SIGNER, member, quota or LocalQuota(), limits or TransferLimits())
    routes = transfer_routes(dependencies, lambda _: files)
    return httpx.AsyncClient(transport=httpx.ASGITransport(Starlette(routes=routes)), base_url="http://gateway")


async def chunked(content: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    """Yield the content in chunks, which is sent without a Content-Length."""
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def url_registered_at(client: httpx.AsyncClient, upload_grant: UploadGrant) -> str:
    """Register the upload with the server's files service and return its URL."""
    assert (await client.post("/announce", content=upload_grant.model_dump_json())).status_code == 200
    return upload_url(upload_grant)
