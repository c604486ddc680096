"""Take the bytes of an upload, check them against its grant while they arrive, and stage them in the storage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Protocol

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from contracts.base import Contract
from contracts.callers import Caller
from contracts.errors import DeadlineExceeded, DomainError, ServiceUnavailable
from contracts.transfer_grants import UploadGrant
from gateway.security.client_network import client_network
from gateway.transfers.dependencies import TransferDependencies
from gateway.transfers.incoming_bytes import IncomingBytes
from gateway.transfers.limits import TransferLimits
from gateway.transfers.quota import TransferHolder, TransferQuota
from gateway.transfers.rate import TransferRate
from gateway.transfers.responses import SAFE_HEADERS, refusal, storage_errors
from infrastructure.observability.audit import Refusal, record_refusal
from infrastructure.storage import staging_key

_COMPLETED_BYTES_PER_SECOND = 32 * 1024 * 1024
"""At least as fast, S3 makes one object of the parts of a multipart upload."""

log = structlog.get_logger(__name__)


class UploadReservations(Protocol):
    """The space that the files service reserves for uploads."""

    async def reserve_upload(self, caller: Caller, upload_id: str) -> None:
        """Reserve the space for some minutes.

        Raises UploadNotFound, UploadCompleted, InvalidInput (no space) or PermissionDenied.
        """

    async def confirm_upload(self, caller: Caller, upload_id: str) -> None:
        """Keep the space of bytes that have arrived. Raises UploadNotFound."""


class UploadReceipt(Contract):
    """What arrived. ``checksum``: lower-case hex SHA-256."""

    size: int
    checksum: str


class Uploads:
    """The endpoint of uploads."""

    def __init__(
        self, dependencies: TransferDependencies, reservations: Callable[[Request], UploadReservations]
    ) -> None:
        """``reservations`` returns the reservations of the application that a request is for."""
        self._storage = dependencies.storage
        self._signer = dependencies.signer
        self._find_caller = dependencies.find_caller
        self._limits = dependencies.limits
        self._quota = TransferQuota("upload", dependencies.limits.uploads, dependencies.quota)
        self._reservations = reservations

    async def respond(self, request: Request) -> Response:
        try:
            grant = self._signer.read(request.path_params["token"], UploadGrant)
            incoming = IncomingBytes(grant)
            incoming.check_content_length(request.headers.get("content-length"))
            holder = TransferHolder(grant.upload_id, grant.user_id, grant.tenant_id, client_network(request))
            async with self._quota.acquire(holder):
                reservation = _Reservation(
                    self._reservations(request),
                    grant.upload_id,
                    partial(self._find_caller, request, grant),
                    self._limits.reserve_seconds,
                )
                await reservation.begin()
                await self._store(grant, incoming, request, reservation)
                await reservation.confirm()
        except DomainError as error:
            return refusal(error, request)
        except ClientDisconnect:
            return Response(status_code=499)  # the client has gone; the storage has discarded what came
        receipt = UploadReceipt(size=incoming.size, checksum=incoming.checksum)
        return Response(receipt.model_dump_json(), media_type="application/json", headers=SAFE_HEADERS)

    async def _store(
        self, grant: UploadGrant, incoming: IncomingBytes, request: Request, reservation: _Reservation
    ) -> None:
        """Save the body. An error that its iterator raises makes the storage discard what it has taken."""
        loop = asyncio.get_running_loop()
        received = _received(request.stream(), self._limits)
        with storage_errors():
            async with asyncio.timeout(self._limits.storage_seconds) as storage_timeout:

                async def passed_on() -> AsyncIterator[bytes]:
                    storage_timeout.reschedule(None)  # the wait for the client has limits of its own
                    async for chunk in incoming.checked(received):
                        await reservation.renew()
                        storage_timeout.reschedule(loop.time() + self._limits.storage_seconds)
                        yield chunk
                        storage_timeout.reschedule(None)
                    completion_seconds = self._limits.storage_seconds + incoming.size / _COMPLETED_BYTES_PER_SECOND
                    storage_timeout.reschedule(loop.time() + completion_seconds)

                await self._storage.save(staging_key(grant.tenant_id, grant.upload_id), passed_on())


class _Reservation:
    """The space of one upload while its bytes arrive, for as long as its user may write files."""

    def __init__(
        self,
        reservations: UploadReservations,
        upload_id: str,
        find_caller: Callable[[], Awaitable[Caller]],
        interval_seconds: float,
    ) -> None:
        self._reservations = reservations
        self._upload_id = upload_id
        self._find_caller = find_caller
        self._interval_seconds = interval_seconds
        self._renew_at = 0.0

    async def begin(self) -> None:
        """Reserve the space. Raises what ``reserve_upload`` raises, and ServiceUnavailable."""
        self._caller = await self._find_caller()
        await self._reservations.reserve_upload(self._caller, self._upload_id)
        self._renew_at = asyncio.get_running_loop().time() + self._interval_seconds

    async def renew(self) -> None:
        """Reserve the space anew if it is time. An unavailable service does not end an upload that has begun."""
        if asyncio.get_running_loop().time() < self._renew_at:
            return
        try:
            await self.begin()
        except (ServiceUnavailable, DeadlineExceeded) as error:
            log.warning("reservation_not_renewed", error=repr(error))

    async def confirm(self) -> None:
        """Keep the space of the bytes that have arrived. Without the service the reservation lapses earlier."""
        try:
            await self._reservations.confirm_upload(self._caller, self._upload_id)
        except (ServiceUnavailable, DeadlineExceeded) as error:
            log.warning("upload_not_confirmed", error=repr(error))


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
        record_refusal(Refusal.BODY)
        raise DeadlineExceeded("The bytes came too slowly; try again.") from error
