"""The download endpoint: stream a file from the storage to a client with a signed URL."""

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
from gateway.transfers.responses import SECURITY_HEADERS, transfer_error_response, translate_storage_errors
from infrastructure.storage import StorageError

log = structlog.get_logger(__name__)


class Downloads:
    """The endpoint ``GET /downloads/TOKEN``."""

    def __init__(self, dependencies: TransferDependencies) -> None:
        self._storage = dependencies.storage
        self._signer = dependencies.signer
        self._find_caller = dependencies.find_caller
        self._limits = dependencies.limits
        self._quota = TransferQuota("download", dependencies.limits.downloads, dependencies.quota)

    async def respond(self, request: Request) -> Response:
        """Check the token, the quota, the user's permission and the file's size, and return the response.

        A failed check is answered with an error in the format of GraphQL errors.
        """
        token = request.path_params["token"]
        try:
            async with AsyncExitStack() as stack:
                grant = self._signer.read(token, DownloadGrant)
                holder = TransferHolder(token, grant.user_id, grant.tenant_id, client_network(request))
                await stack.enter_async_context(self._quota.acquire(holder))
                if grant.permission not in (await self._find_caller(request, grant)).permissions:
                    raise PermissionDenied()
                if await self._stored_size(grant.storage_key) != grant.size:
                    raise FileNotFound()
                headers = {
                    **SECURITY_HEADERS,
                    "Content-Length": str(grant.size),
                    "Content-Disposition": _attachment(grant.name),
                }
                if request.method == "HEAD":
                    return Response(headers=headers, media_type=grant.content_type)
                body = _with_timeout(
                    self._storage.stream(grant.storage_key, grant.size), self._limits.storage_timeout_seconds
                )
                return _Download(body, headers, grant.content_type, self._limits, stack.pop_all())
        except DomainError as error:
            return transfer_error_response(error, request)

    async def _stored_size(self, key: str) -> int | None:
        with translate_storage_errors():
            async with asyncio.timeout(self._limits.storage_timeout_seconds):
                return await self._storage.size(key)


class _Download(StreamingResponse):
    """A streaming response that is cut off if its client reads too slowly or the storage fails.

    The connection is then closed. ``resources`` are released when the response has ended.
    """

    def __init__(
        self,
        body: AsyncGenerator[bytes],
        headers: Mapping[str, str],
        media_type: str,
        limits: TransferLimits,
        resources: AsyncExitStack,
    ) -> None:
        super().__init__(body, headers=headers, media_type=media_type)
        self._body = body
        self._limits = limits
        self._resources = resources

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._resources, aclosing(self._body):
            await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        """Send the body. If it is cut off, no last message is sent, so that the server resets the connection and the
        client does not mistake a part for the whole file.
        """
        try:
            async with asyncio.timeout(self._limits.total_timeout_seconds):
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
        async with asyncio.timeout(rate.timeout()):  # over HTTP/2 the call waits until the client has read everything
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _with_timeout(chunks: AsyncGenerator[bytes], seconds: float) -> AsyncGenerator[bytes]:
    """Yield the chunks of the storage.

    Raises:
        ServiceUnavailable: the storage does not return the next chunk within ``seconds``.
    """
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
    """Return a Content-Disposition (RFC 6266) with an ASCII name for old clients and the UTF-8 name (RFC 8187)."""
    is_ascii = re.compile(r"[ -~]").match
    ascii_name = "".join(each if is_ascii(each) and each not in '"\\%' else "_" for each in name)
    return f"attachment; filename=\"{ascii_name}\"; filename*=UTF-8''{quote(name, safe='')}"
