"""Time limits of transfers: which waits count, how long a transfer may take, and when its reservation is renewed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import httpx
from starlette.applications import Starlette
from starlette.types import Message

from contracts.callers import Caller
from contracts.errors import ServiceUnavailable
from contracts.transfer_grants import UploadGrant
from gateway.transfers.dependencies import TransferDependencies
from gateway.transfers.downloads import Downloads
from gateway.transfers.limits import TransferLimits
from gateway.transfers.rate import MinimumRate
from gateway.transfers.routes import transfer_routes
from infrastructure.limits.quota import LocalQuota
from infrastructure.storage import FileStorage
from resolvers.clients.files import FilesClient
from tests.gateway.transfers.files_service import SIGNER, member
from tests.gateway.transfers.stores import Store
from tests.gateway.transfers.transferring import (
    MIB,
    TEXT,
    download_path,
    download_request,
    grant,
    receive_nothing,
    registered_url,
    store_zeros,
    transfer_client,
)

NO_RATE = MinimumRate(bytes_per_second=1, window_seconds=60)


class CountingReservations:
    """The real reservations of uploads, with counters; while ``is_unavailable`` is set, the service is unavailable."""

    def __init__(self, files: FilesClient) -> None:
        self._files = files
        self.reserved = self.confirmed = 0
        self.is_unavailable = False

    async def reserve_upload(self, caller: Caller, upload_id: str) -> None:
        self.reserved += 1
        if self.is_unavailable:
            raise ServiceUnavailable(service="files")
        await self._files.reserve_upload(caller, upload_id)

    async def confirm_upload(self, caller: Caller, upload_id: str) -> None:
        self.confirmed += 1
        await self._files.confirm_upload(caller, upload_id)


async def send_in_parts(content: bytes, *, parts: int, pause_seconds: float) -> AsyncIterator[bytes]:
    """Yield the content in this many parts, with a pause before each."""
    size = -(-len(content) // parts)
    for begin in range(0, len(content), size):
        await asyncio.sleep(pause_seconds)
        yield content[begin : begin + size]


async def put(
    storage: FileStorage, reservations: CountingReservations, limits: TransferLimits, upload_grant: UploadGrant
) -> int:
    """Upload for a second or more; return the status."""
    routes = transfer_routes(
        TransferDependencies(storage, SIGNER, member, LocalQuota(), limits), lambda _: reservations
    )
    transport = httpx.ASGITransport(Starlette(routes=routes))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        response = await client.put(
            await registered_url(upload_grant), content=send_in_parts(TEXT, parts=10, pause_seconds=0.1)
        )
    return response.status_code


async def test_renews_a_reservation_during_an_upload_and_confirms_it_at_the_end(
    storage: FileStorage, files: FilesClient
) -> None:
    reservations = CountingReservations(files)
    assert await put(storage, reservations, TransferLimits(reservation_interval_seconds=0.3), grant()) == 200
    assert 3 <= reservations.reserved <= 6
    assert reservations.confirmed == 1
    reservations = CountingReservations(files)
    assert await put(storage, reservations, TransferLimits(reservation_interval_seconds=60), grant()) == 200
    assert (reservations.reserved, reservations.confirmed) == (1, 1)


async def test_unavailable_service_does_not_end_a_running_upload(storage: FileStorage, files: FilesClient) -> None:
    reservations = CountingReservations(files)
    uploading = asyncio.create_task(
        put(storage, reservations, TransferLimits(reservation_interval_seconds=0.2), grant())
    )
    async with asyncio.timeout(10):
        while reservations.reserved == 0:  # noqa: ASYNC110 - the counter has no event
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    reservations.is_unavailable = True
    assert await uploading == 200
    assert reservations.reserved > 2


async def test_time_of_a_slow_client_does_not_count_for_the_storage_timeout(
    storage: FileStorage, files: FilesClient
) -> None:
    limits = TransferLimits(storage_timeout_seconds=0.8)
    async with transfer_client(storage, files, limits) as client:
        response = await client.put(
            await registered_url(grant()), content=send_in_parts(TEXT, parts=2, pause_seconds=1.2)
        )
        assert response.status_code == 200, response.text


async def test_upload_ends_after_the_total_time_at_any_rate(
    storage: FileStorage, store: Store, files: FilesClient
) -> None:
    limits = TransferLimits(total_timeout_seconds=1, minimum_rate=NO_RATE)
    async with transfer_client(storage, files, limits) as client:
        upload_grant, began = grant(), time.monotonic()
        response = await client.put(
            await registered_url(upload_grant), content=send_in_parts(TEXT, parts=60, pause_seconds=0.1)
        )
        assert time.monotonic() - began < 5
        assert (response.status_code, response.json()["errors"][0]["extensions"]["code"]) == (504, "TIMEOUT")
        assert store.content() == set()
        assert (await client.put(await registered_url(upload_grant), content=TEXT)).status_code == 200


async def test_download_ends_incomplete_after_the_total_time(storage: FileStorage) -> None:
    size = 4 * MIB
    await store_zeros(storage, "t/slow", size, parts=4)
    limits, quota = TransferLimits(total_timeout_seconds=0.5, minimum_rate=NO_RATE), LocalQuota()
    downloads = Downloads(TransferDependencies(storage, SIGNER, member, quota, limits))
    sent: list[Message] = []

    async def accept_slowly(message: Message) -> None:
        sent.append(message)
        await asyncio.sleep(0.2)

    request = download_request(download_path("t/slow", size))
    response = await downloads.respond(request)
    async with asyncio.timeout(5):
        await response(request.scope, receive_nothing, accept_slowly)
    assert 2 <= len(sent) < 5
    assert all(message.get("more_body", True) for message in sent)


async def test_download_ends_when_the_storage_exceeds_its_timeout(storage: FileStorage) -> None:
    pause_seconds = 0.3

    class HangingStorage:
        async def size(self, key: str) -> int | None:
            return await storage.size(key)

        async def stream(self, key: str, size: int) -> AsyncIterator[bytes]:
            async for chunk in storage.stream(key, size):
                yield chunk[:1000]
                await asyncio.sleep(60)

    await store_zeros(storage, "t/stuck", 100_000)
    limits = TransferLimits(storage_timeout_seconds=pause_seconds)
    hanging_storage: FileStorage = HangingStorage()  # type: ignore[assignment]
    downloads = Downloads(TransferDependencies(hanging_storage, SIGNER, member, LocalQuota(), limits))
    sent: list[Message] = []

    async def accept_message(message: Message) -> None:
        sent.append(message)

    request, began = download_request(download_path("t/stuck", 100_000)), time.monotonic()
    response = await downloads.respond(request)
    async with asyncio.timeout(10):
        await response(request.scope, receive_nothing, accept_message)
    assert pause_seconds <= time.monotonic() - began < 5
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[-1]["more_body"]
