"""Stream the bytes of a file from the storage to a client that holds its signed URL."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, aclosing
from urllib.parse import quote

import structlog
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from contracts.errors import DomainError, FileNotFound, PermissionDenied, ServiceUnavailable
from contracts.transfer_grants import DownloadGrant
from gateway.security.client_network import client_network
from gateway.transfers.dependencies import TransferDependencies
from gateway.transfers.limits import TransferLimits
from gateway.transfers.quota import TransferHolder, TransferQuota
from gateway.transfers.rate import TransferRate
from gateway.transfers.responses import SAFE_HEADERS, refusal, storage_errors
from infrastructure.storage import StorageError

log = structlog.get_logger(__name__)


class Downloads:
    """The endpoint of downloads."""

    def __init__(self, dependencies: TransferDependencies) -> None:
        self._storage = dependencies.storage
        self._signer = dependencies.signer
        self._find_caller = dependencies.find_caller
        self._limits = dependencies.limits
        self._quota = TransferQuota("download", dependencies.limits.downloads, dependencies.quota)

    async def respond(self, request: Request) -> Response:
        token = request.path_params["token"]
        try:
            async with AsyncExitStack() as held:
                grant = self._signer.read(token, DownloadGrant)
                holder = TransferHolder(token, grant.user_id, grant.tenant_id, client_network(request))
                await held.enter_async_context(self._quota.acquire(holder))
                if grant.permission not in (await self._find_caller(request, grant)).permissions:
                    raise PermissionDenied()
                if await self._stored_size(grant.storage_key) != grant.size:
                    raise FileNotFound()
                headers = {
                    **SAFE_HEADERS,
                    "Content-Length": str(grant.size),
                    "Content-Disposition": _attachment(grant.name),
                }
                if request.method == "HEAD":
                    return Response(headers=headers, media_type=grant.content_type)
                body = _in_time(self._storage.stream(grant.storage_key, grant.size), self._limits.storage_seconds)
                return _Download(body, headers, grant.content_type, self._limits, held.pop_all())
        except DomainError as error:
            return refusal(error, request)

    async def _stored_size(self, key: str) -> int | None:
        with storage_errors():
            async with asyncio.timeout(self._limits.storage_seconds):
                return await self._storage.size(key)


class _Download(StreamingResponse):
    """A response that ends early, which closes the connection, if its client reads too slowly or the storage fails.

    ``held`` is what is released once it has ended.
    """

    def __init__(
        self,
        body: AsyncGenerator[bytes],
        headers: Mapping[str, str],
        media_type: str,
        limits: TransferLimits,
        held: AsyncExitStack,
    ) -> None:
        super().__init__(body, headers=headers, media_type=media_type)
        self._body = body
        self._limits = limits
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._held, aclosing(self._body):
            await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        """Send the body. Without its last message the server resets the connection, so that no client takes the part
        for the whole.
        """
        try:
            async with asyncio.timeout(self._limits.total_seconds):
                await self._send_all(send)
        except TimeoutError:
            log.info("download_too_slow")
        except (StorageError, FileNotFoundError, ServiceUnavailable) as error:
            log.warning("storage_unavailable", error=repr(error))

    async def _send_all(self, send: Send) -> None:
        loop, rate = asyncio.get_running_loop(), TransferRate(self._limits.minimum_rate)
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for chunk in self._body:
            began = loop.time()
            async with asyncio.timeout(rate.timeout()):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            rate.add(loop.time() - began, len(chunk))
        async with asyncio.timeout(rate.timeout()):  # over HTTP/2 it waits until the client has read all
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _in_time(chunks: AsyncGenerator[bytes], seconds: float) -> AsyncGenerator[bytes]:
    """Yield the chunks. Raises ServiceUnavailable if the storage does not give the next one within ``seconds``."""
    async with aclosing(chunks):
        while True:
            try:
                async with asyncio.timeout(seconds):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            except TimeoutError as error:
                raise ServiceUnavailable(service="storage") from error
            yield chunk


def _attachment(name: str) -> str:
    """Content-Disposition (RFC 6266): a name for old clients, and the true one in UTF-8 (RFC 8187)."""
    is_plain = re.compile(r"[ -~]").match
    plain = "".join(letter if is_plain(letter) and letter not in '"\\%' else "_" for letter in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
