"""Bytes in and out under signed addresses: streamed between client and storage, never in memory as a whole."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote

from graphql import GraphQLError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from contracts.base import Contract
from contracts.content import SAMPLE_BYTES, belies
from contracts.errors import (
    DeadlineExceeded,
    DomainError,
    FileNotFound,
    InvalidInput,
    RateLimited,
    UploadTooLarge,
)
from contracts.storage import FileStorage, staging_key
from contracts.transfers import DOWNLOADS_PATH, UPLOADS_PATH, DownloadGrant, TransferSigner, UploadGrant
from schema.errors import translate

_MOST_DIGITS = 18
_PIECE_BYTES = 1024 * 1024
_SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "cross-origin",  # its address is the secret, and frontends elsewhere show images
    "Cache-Control": "private, no-store",
    "Referrer-Policy": "no-referrer",
}


class UploadReceipt(Contract):
    """What arrived. ``checksum``: lower-case hex SHA-256."""

    size: int
    checksum: str


class TransferLimits(Contract):
    """``at_once``: transfers that a process carries at the same time.

    ``silence``: seconds without a byte; ``whole``: seconds from the first byte to the last.
    """

    at_once: int = 64
    silence: float = 30.0
    whole: float = 3600.0


def upload_routes(storage: FileStorage, signer: TransferSigner, limits: TransferLimits | None = None) -> list[Route]:
    """``PUT /uploads/TOKEN`` (not where clients send to an object store by themselves, but harmless there), and
    ``GET /downloads/TOKEN``. Errors have the shape of GraphQL's, and the error's status.
    """
    transfers = _Transfers(storage, signer, limits or TransferLimits())
    return [
        Route(f"{UPLOADS_PATH}/{{token}}", transfers.take_in, methods=["PUT"]),
        Route(f"{DOWNLOADS_PATH}/{{token}}", transfers.give_out, methods=["GET"]),
    ]


class _Transfers:
    def __init__(self, storage: FileStorage, signer: TransferSigner, limits: TransferLimits) -> None:
        self._storage = storage
        self._signer = signer
        self._limits = limits
        self._free = limits.at_once

    async def take_in(self, request: Request) -> Response:
        try:
            grant = self._signer.read(request.path_params["token"], UploadGrant)
            arrival = _Arrival(grant)
            arrival.announce(request.headers.get("content-length"))
            async with self._place():
                await self._store(grant, arrival, request)
            return _json(200, UploadReceipt(size=arrival.size, checksum=arrival.checksum))
        except DomainError as error:
            return _refusal(error, request)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it; what came is gone

    async def give_out(self, request: Request) -> Response:
        try:
            grant = self._signer.read(request.path_params["token"], DownloadGrant)
            if await self._storage.size(grant.storage_key) != grant.size:
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
        return StreamingResponse(self._read(grant), headers=headers, media_type=grant.content_type)

    async def _store(self, grant: UploadGrant, arrival: _Arrival, request: Request) -> None:
        """An error of the arriving bytes aborts the writing, so that no object comes to be."""
        pieces = arrival.checked(_spoken(request.stream(), self._limits))
        try:
            async with asyncio.timeout(self._limits.whole + self._limits.silence):  # for a storage that hangs
                await self._storage.save(staging_key(grant.tenant_id, grant.upload_id), pieces)
        except TimeoutError as error:
            raise DeadlineExceeded("The bytes came too slowly; try again.") from error

    async def _read(self, grant: DownloadGrant) -> AsyncIterator[bytes]:
        async with self._place(), asyncio.timeout(self._limits.whole):
            start = 0
            while start < grant.size:
                piece = await self._storage.read(grant.storage_key, start, _PIECE_BYTES)
                start += len(piece)
                yield piece

    @asynccontextmanager
    async def _place(self) -> AsyncGenerator[None]:
        if not self._free:
            raise _busy()
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


class _Arrival:
    """Bytes under the conditions of a grant: counted, summed and looked at while they arrive."""

    def __init__(self, grant: UploadGrant) -> None:
        self._grant = grant
        self._digest = hashlib.sha256()
        self.size = 0

    @property
    def checksum(self) -> str:
        return self._digest.hexdigest()

    def announce(self, content_length: str | None) -> None:
        """Refuse before the first byte what the client itself says is too much or too little."""
        if content_length is None or not content_length.isdecimal():
            return
        if len(content_length) > _MOST_DIGITS or int(content_length) > self._grant.size:
            raise UploadTooLarge()
        if int(content_length) < self._grant.size:
            raise InvalidInput("Fewer bytes than were announced.")

    async def checked(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The pieces again. Raises as soon as they break a condition, at the latest instead of coming to their end."""
        sample = bytearray()
        looked = False
        async for piece in pieces:
            self.size += len(piece)
            if self.size > self._grant.size:
                raise UploadTooLarge()
            self._digest.update(piece)
            if looked:
                yield piece
                continue
            sample += piece
            if len(sample) >= SAMPLE_BYTES:
                self._look(bytes(sample[:SAMPLE_BYTES]))
                looked = True
                yield bytes(sample)
        if self.size < self._grant.size:
            raise InvalidInput("Fewer bytes than were announced.")
        if self._grant.checksum is not None and self.checksum != self._grant.checksum:
            raise InvalidInput("The bytes do not have the announced checksum.")
        if not looked:
            self._look(bytes(sample))
            yield bytes(sample)

    def _look(self, sample: bytes) -> None:
        if belies(sample, self._grant.content_type):
            raise InvalidInput(f"The bytes are not of the type {self._grant.content_type}.")


async def _spoken(pieces: AsyncGenerator[bytes, None], limits: TransferLimits) -> AsyncIterator[bytes]:
    """The pieces that are not empty; TimeoutError where none comes for too long, or all take too long.

    The writer of the pieces sees that as their error and takes back what it wrote; cut off, it would leave it behind.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + limits.whole
    while True:
        try:
            async with asyncio.timeout_at(min(end, loop.time() + limits.silence)):
                piece = await anext(pieces)
        except StopAsyncIteration:
            return
        if piece:
            yield piece


def _attachment(name: str) -> str:
    """Content-Disposition (RFC 6266): a name for old clients, and the true one in UTF-8 (RFC 8187)."""
    is_plain = re.compile(r"[ -~]").match
    plain = "".join(letter if is_plain(letter) and letter not in '"\\%' else "_" for letter in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _busy() -> RateLimited:
    return RateLimited("Too many transfers at once; try again in a moment.", retry_after=1.0)


def _refusal(error: DomainError, request: Request) -> Response:
    """In the words and the shape of every other error."""
    told = translate([GraphQLError("", original_error=error)], getattr(request.state, "request_id", ""))
    body = json.dumps({"errors": [each.formatted for each in told]})
    response = Response(body, error.http_status, media_type="application/json", headers=_SAFE_HEADERS)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(round(error.retry_after))
    return response


def _json(status: int, body: Contract) -> Response:
    return Response(body.model_dump_json(), status, media_type="application/json", headers=_SAFE_HEADERS)
