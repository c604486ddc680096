"""Upload and download of files by signed URLs: streamed between client and storage, never held in memory as a whole.

The rules are enforced here, between the client and any kind of storage, so that a folder and S3 differ in nothing.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from urllib.parse import quote

import structlog
from graphql import GraphQLError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Send

from contracts.base import Contract
from contracts.errors import DeadlineExceeded, DomainError, FileNotFound, RateLimited, ServiceUnavailable
from contracts.storage import FileStorage, StorageError, staging_key
from contracts.transfers import DOWNLOADS_PATH, UPLOADS_PATH, DownloadGrant, TransferSigner, UploadGrant
from gateway.http.incoming_bytes import IncomingBytes
from gateway.http.transfer_rate import MinimumRate, TransferRate
from schema.errors import translate

_COMPLETED_BYTES_PER_SECOND = 32 * 1024 * 1024
"""At least as fast, S3 makes one object of the parts of a multipart upload."""
_SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "cross-origin",  # its address is the secret, and frontends elsewhere show images
    "Cache-Control": "private, no-store",
    "Referrer-Policy": "no-referrer",
}

log = structlog.get_logger(__name__)


class UploadReceipt(Contract):
    """What arrived. ``checksum``: lower-case hex SHA-256."""

    size: int
    checksum: str


class TransferLimits(Contract):
    """Bounds of one transfer and of all.

    ``concurrent``: transfers of one process at a time. ``minimum_rate``: below which a client is too slow.
    ``total_seconds``: from the first byte to the last. ``storage_seconds``: within which the storage has to take or
    give each part; it may take longer to complete a large object.
    """

    concurrent: int = 64
    minimum_rate: MinimumRate = MinimumRate()
    total_seconds: float = 3600.0
    storage_seconds: float = 8.0


def transfer_routes(storage: FileStorage, signer: TransferSigner, limits: TransferLimits | None = None) -> list[Route]:
    """Return the routes ``PUT /uploads/TOKEN`` and ``GET /downloads/TOKEN``.

    Errors have the shape of GraphQL errors, and the status of the error.
    """
    transfers = _Transfers(storage, signer, limits or TransferLimits())
    return [
        Route(f"{UPLOADS_PATH}/{{token}}", transfers.upload, methods=["PUT"]),
        Route(f"{DOWNLOADS_PATH}/{{token}}", transfers.download, methods=["GET"]),
    ]


class _Transfers:
    def __init__(self, storage: FileStorage, signer: TransferSigner, limits: TransferLimits) -> None:
        self._storage = storage
        self._signer = signer
        self._limits = limits
        self._free = limits.concurrent

    async def upload(self, request: Request) -> Response:
        try:
            grant = self._signer.read(request.path_params["token"], UploadGrant)
            incoming = IncomingBytes(grant)
            incoming.check_content_length(request.headers.get("content-length"))
            async with self._place():
                await self._store(grant, incoming, request)
            return _json(200, UploadReceipt(size=incoming.size, checksum=incoming.checksum))
        except DomainError as error:
            return _refusal(error, request)
        except ClientDisconnect:
            return Response(status_code=499)  # the client has gone; the storage has discarded what came

    async def download(self, request: Request) -> Response:
        try:
            grant = self._signer.read(request.path_params["token"], DownloadGrant)
            if await self._stored_size(grant.storage_key) != grant.size:
                raise FileNotFound()
        except DomainError as error:
            return _refusal(error, request)
        headers = {
            **_SAFE_HEADERS,
            "Content-Length": str(grant.size),
            "Content-Disposition": _attachment(grant.name),
        }
        if request.method == "HEAD":
            return Response(headers=headers, media_type=grant.content_type)
        if not self._free:
            return _refusal(_busy(), request)
        return _Download(self._read(grant), headers, grant.content_type, self._limits)

    async def _store(self, grant: UploadGrant, incoming: IncomingBytes, request: Request) -> None:
        """Save the body. An error that its iterator raises makes the storage discard what it has taken."""
        loop = asyncio.get_running_loop()
        received = _received(request.stream(), self._limits)
        try:
            async with asyncio.timeout(self._limits.storage_seconds) as storage_timeout:

                async def passed_on() -> AsyncIterator[bytes]:
                    storage_timeout.reschedule(None)
                    async for chunk in incoming.checked(received):
                        storage_timeout.reschedule(loop.time() + self._limits.storage_seconds)
                        yield chunk
                        storage_timeout.reschedule(None)  # the wait for the client has limits of its own
                    completion_seconds = self._limits.storage_seconds + incoming.size / _COMPLETED_BYTES_PER_SECOND
                    storage_timeout.reschedule(loop.time() + completion_seconds)

                await self._storage.save(staging_key(grant.tenant_id, grant.upload_id), passed_on())
        except (StorageError, TimeoutError) as error:
            log.warning("storage_unavailable", error=repr(error))
            raise ServiceUnavailable(service="storage") from error

    async def _stored_size(self, key: str) -> int | None:
        try:
            async with asyncio.timeout(self._limits.storage_seconds):
                return await self._storage.size(key)
        except (StorageError, TimeoutError) as error:
            log.warning("storage_unavailable", error=repr(error))
            raise ServiceUnavailable(service="storage") from error

    async def _read(self, grant: DownloadGrant) -> AsyncGenerator[bytes]:
        async with self._place(), aclosing(self._storage.stream(grant.storage_key, grant.size)) as chunks:
            while True:
                try:
                    async with asyncio.timeout(self._limits.storage_seconds):
                        chunk = await anext(chunks)
                except StopAsyncIteration:
                    return
                yield chunk

    @asynccontextmanager
    async def _place(self) -> AsyncGenerator[None]:
        if not self._free:
            raise _busy()
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


class _Download(StreamingResponse):
    """A response that ends early, which closes the connection, if its client reads too slowly or the storage fails."""

    def __init__(
        self, body: AsyncGenerator[bytes], headers: Mapping[str, str], media_type: str, limits: TransferLimits
    ) -> None:
        super().__init__(body, headers=headers, media_type=media_type)
        self._body = body
        self._limits = limits

    async def stream_response(self, send: Send) -> None:
        """Send the body. Without its last message the server resets the connection, so that no client takes the part
        for the whole.
        """
        try:
            async with aclosing(self._body), asyncio.timeout(self._limits.total_seconds):
                await self._send_all(send)
        except TimeoutError:
            log.info("download_too_slow")
        except (StorageError, FileNotFoundError) as error:
            log.warning("storage_unavailable", error=repr(error))

    async def _send_all(self, send: Send) -> None:
        loop, rate = asyncio.get_running_loop(), TransferRate(self._limits.minimum_rate)
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for chunk in self._body:
            began = loop.time()
            async with asyncio.timeout(rate.timeout()):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            rate.add(loop.time() - began, len(chunk))
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _received(chunks: AsyncGenerator[bytes, None], limits: TransferLimits) -> AsyncGenerator[bytes]:
    """Yield the chunks that are not empty.

    Raises:
        DeadlineExceeded: the client sends too slowly.
    """
    loop, rate = asyncio.get_running_loop(), TransferRate(limits.minimum_rate)
    end = loop.time() + limits.total_seconds
    try:
        while True:
            began = loop.time()
            async with asyncio.timeout_at(min(end, began + rate.timeout())):
                chunk = await anext(chunks)
            rate.add(loop.time() - began, len(chunk))
            if chunk:
                yield chunk
    except StopAsyncIteration:
        return
    except TimeoutError as error:
        raise DeadlineExceeded("The bytes came too slowly; try again.") from error


def _attachment(name: str) -> str:
    """Content-Disposition (RFC 6266): a name for old clients, and the true one in UTF-8 (RFC 8187)."""
    is_plain = re.compile(r"[ -~]").match
    plain = "".join(letter if is_plain(letter) and letter not in '"\\%' else "_" for letter in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _busy() -> RateLimited:
    return RateLimited("Too many transfers at once; try again in a moment.", retry_after=1.0)


def _refusal(error: DomainError, request: Request) -> Response:
    """Return the error in the shape of every other error."""
    formatted = translate([GraphQLError("", original_error=error)], getattr(request.state, "request_id", ""))
    body = json.dumps({"errors": [each.formatted for each in formatted]})
    response = Response(body, error.http_status, media_type="application/json", headers=_SAFE_HEADERS)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(round(error.retry_after))
    return response


def _json(status: int, body: Contract) -> Response:
    return Response(body.model_dump_json(), status, media_type="application/json", headers=_SAFE_HEADERS)
