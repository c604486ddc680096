"""The upload endpoint: verify the bytes of an upload while they arrive, and save them as a staged object."""

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
from gateway.transfers.responses import SECURITY_HEADERS, transfer_error_response, translate_storage_errors
from infrastructure.observability.audit import Refusal, record_refusal
from infrastructure.storage import staging_key

_COMPLETED_BYTES_PER_SECOND = 32 * 1024 * 1024
"""The lowest assumed rate at which S3 combines the parts of a multipart upload into one object."""

log = structlog.get_logger(__name__)


class UploadReservations(Protocol):
    """The part of the files service that reserves storage space for uploads."""

    async def reserve_upload(self, caller: Caller, upload_id: str) -> None:
        """Reserve the space of an upload for some minutes.

        Raises:
            UploadNotFound: there is no such upload.
            UploadCompleted: the upload has been completed.
            InvalidInput: the tenant has no space left.
            PermissionDenied: the caller may not write files.
        """

    async def confirm_upload(self, caller: Caller, upload_id: str) -> None:
        """Keep the reservation of an upload whose bytes have arrived.

        Raises:
            UploadNotFound: there is no such upload.
        """


class UploadReceipt(Contract):
    """The response to a successful upload: size in bytes and SHA-256 in lower-case hexadecimal digits."""

    size: int
    checksum: str


class Uploads:
    """The endpoint ``PUT /uploads/TOKEN``.

    Args:
        reservations: returns the client that reserves space for the upload of a request.
    """

    def __init__(
        self, dependencies: TransferDependencies, reservations: Callable[[Request], UploadReservations]
    ) -> None:
        self._storage = dependencies.storage
        self._signer = dependencies.signer
        self._find_caller = dependencies.find_caller
        self._limits = dependencies.limits
        self._quota = TransferQuota("upload", dependencies.limits.uploads, dependencies.quota)
        self._reservations = reservations

    async def respond(self, request: Request) -> Response:
        """Check the token and the quota, reserve space, save the body, and return an ``UploadReceipt``.

        A failed check is answered with an error in the format of GraphQL errors.
        """
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
                    self._limits.reservation_interval_seconds,
                )
                await reservation.begin()
                await self._store(grant, incoming, request, reservation)
                await reservation.confirm()
        except DomainError as error:
            return transfer_error_response(error, request)
        except ClientDisconnect:
            return Response(status_code=499)  # the client has disconnected; the storage has discarded the bytes
        receipt = UploadReceipt(size=incoming.size, checksum=incoming.checksum)
        return Response(receipt.model_dump_json(), media_type="application/json", headers=SECURITY_HEADERS)

    async def _store(
        self, grant: UploadGrant, incoming: IncomingBytes, request: Request, reservation: _Reservation
    ) -> None:
        """Save the body. If its iterator raises an error, the storage discards the bytes that it has received."""
        loop = asyncio.get_running_loop()
        chunks = _receive(request.stream(), self._limits)
        with translate_storage_errors():
            async with asyncio.timeout(self._limits.storage_timeout_seconds) as storage_timeout:

                async def verified_chunks() -> AsyncIterator[bytes]:
                    storage_timeout.reschedule(None)  # the wait for the client has its own timeouts
                    async for chunk in incoming.verify(chunks):
                        await reservation.renew()
                        storage_timeout.reschedule(loop.time() + self._limits.storage_timeout_seconds)
                        yield chunk
                        storage_timeout.reschedule(None)
                    completion_seconds = (
                        self._limits.storage_timeout_seconds + incoming.size / _COMPLETED_BYTES_PER_SECOND
                    )
                    storage_timeout.reschedule(loop.time() + completion_seconds)

                await self._storage.save(staging_key(grant.tenant_id, grant.upload_id), verified_chunks())


class _Reservation:
    """The reservation of space for one upload, renewed while the bytes arrive and the user may write files."""

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
        """Reserve the space.

        Raises:
            ServiceUnavailable, DeadlineExceeded: a service does not answer.
            DomainError: the errors of ``UploadReservations.reserve_upload``.
        """
        self._caller = await self._find_caller()
        await self._reservations.reserve_upload(self._caller, self._upload_id)
        self._renew_at = asyncio.get_running_loop().time() + self._interval_seconds

    async def renew(self) -> None:
        """Reserve the space again if the interval has passed. An unavailable service does not end the upload."""
        if asyncio.get_running_loop().time() < self._renew_at:
            return
        try:
            await self.begin()
        except (ServiceUnavailable, DeadlineExceeded) as error:
            log.warning("reservation_not_renewed", error=repr(error))

    async def confirm(self) -> None:
        """Keep the reservation after the last byte. If the service is unavailable, the reservation expires earlier."""
        try:
            await self._reservations.confirm_upload(self._caller, self._upload_id)
        except (ServiceUnavailable, DeadlineExceeded) as error:
            log.warning("upload_not_confirmed", error=repr(error))


async def _receive(chunks: AsyncGenerator[bytes, None], limits: TransferLimits) -> AsyncGenerator[bytes]:
    """Yield the chunks of the body that are not empty.

    Raises:
        DeadlineExceeded: the client sends too slowly.
    """
    loop, rate = asyncio.get_running_loop(), TransferRate(limits.minimum_rate)
    end = loop.time() + limits.total_timeout_seconds
    try:
        while True:
            started_at = loop.time()
            async with asyncio.timeout_at(min(end, started_at + rate.timeout())):
                chunk = await anext(chunks)
            rate.add(loop.time() - started_at, len(chunk))
            if chunk:
                yield chunk
    except StopAsyncIteration:
        return
    except TimeoutError as error:
        record_refusal(Refusal.BODY)
        raise DeadlineExceeded("The bytes came too slowly; try again.") from error
