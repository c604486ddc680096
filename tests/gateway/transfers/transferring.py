"""Grants, their URLs, and clients of the routes of transfers."""

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
    return UploadGrant(
        upload_id=new_id("upl"),
        tenant_id=new_id("ten"),
        user_id=new_id("usr"),
        content_type=content_type,
        size=len(content),
        checksum=hashlib.sha256(content).hexdigest() if checksum else None,
    )


async def announced(leave: UploadGrant) -> str:
    """The URL of an upload that the files service knows."""
    await register(leave)
    return address(leave)


def address(leave: UploadGrant, lifetime: timedelta = timedelta(minutes=1)) -> str:
    return SIGNER.upload_path(leave, utc_now() + lifetime)


def link(storage_key: str, size: int, name: str = "n.txt", content_type: str = "text/plain") -> str:
    """Return the path of a download."""
    leave = DownloadGrant(
        tenant_id=new_id("ten"),
        user_id=new_id("usr"),
        permission="files:read",
        storage_key=storage_key,
        name=name,
        content_type=content_type,
        size=size,
    )
    return SIGNER.download_path(leave, utc_now() + timedelta(minutes=5))


def get(path: str) -> Request:
    """Return a request for the path of a download, for the endpoint without its routes."""
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


async def connected() -> Message:
    """Receive nothing, as from a client that stays connected."""
    await asyncio.sleep(60)
    raise AssertionError


async def store_zeros(storage: FileStorage, key: str, size: int, parts: int = 1) -> None:
    """Store an object of zero bytes, whose size is a multiple of ``parts``."""

    async def zeros() -> AsyncIterator[bytes]:
        for _ in range(parts):
            yield bytes(size // parts)

    await storage.save(key, zeros())


def key_of(leave: UploadGrant) -> str:
    return staging_key(leave.tenant_id, leave.upload_id)


def gateway(
    storage: FileStorage, files: FilesClient, limits: TransferLimits | None = None, quota: Quota | None = None
) -> httpx.AsyncClient:
    """A client of the routes."""
    dependencies = TransferDependencies(storage, SIGNER, member, quota or LocalQuota(), limits or TransferLimits())
    routes = transfer_routes(dependencies, lambda _: files)
    return httpx.AsyncClient(transport=httpx.ASGITransport(Starlette(routes=routes)), base_url="http://gateway")


async def chunked(content: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    """Sent without a Content-Length."""
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def announced_to(client: httpx.AsyncClient, leave: UploadGrant) -> str:
    """The URL of an upload that the server's files service knows."""
    assert (await client.post("/announce", content=leave.model_dump_json())).status_code == 200
    return address(leave)
