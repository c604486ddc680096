"""Long transfers: whose time counts, how much there is, and what is renewed until their end."""

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
from tests.gateway.transfers.transferring import MIB, TEXT, announced, connected, gateway, get, grant, link, store_zeros

NO_RATE = MinimumRate(bytes_per_second=1, window_seconds=60)


class Counted:
    """The real reservations, counted; ``is_away``: the service does not answer."""

    def __init__(self, files: FilesClient) -> None:
        self._files = files
        self.reserved = self.confirmed = 0
        self.is_away = False

    async def reserve_upload(self, caller: Caller, upload_id: str) -> None:
        self.reserved += 1
        if self.is_away:
            raise ServiceUnavailable(service="files")
        await self._files.reserve_upload(caller, upload_id)

    async def confirm_upload(self, caller: Caller, upload_id: str) -> None:
        self.confirmed += 1
        await self._files.confirm_upload(caller, upload_id)


async def slowly(content: bytes, *, parts: int, seconds: float) -> AsyncIterator[bytes]:
    """In so many parts, with a pause before each."""
    size = -(-len(content) // parts)
    for begin in range(0, len(content), size):
        await asyncio.sleep(seconds)
        yield content[begin : begin + size]


async def put(storage: FileStorage, counted: Counted, limits: TransferLimits, leave: UploadGrant) -> int:
    """The status of an upload that takes a second or more."""
    routes = transfer_routes(TransferDependencies(storage, SIGNER, member, LocalQuota(), limits), lambda _: counted)
    transport = httpx.ASGITransport(Starlette(routes=routes))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        answer = await client.put(await announced(leave), content=slowly(TEXT, parts=10, seconds=0.1))
    return answer.status_code


async def test_a_reservation_is_renewed_while_bytes_arrive_and_confirmed_once_at_the_end(
    storage: FileStorage, files: FilesClient
) -> None:
    counted = Counted(files)
    assert await put(storage, counted, TransferLimits(reservation_interval_seconds=0.3), grant()) == 200
    assert 3 <= counted.reserved <= 6
    assert counted.confirmed == 1
    counted = Counted(files)
    assert await put(storage, counted, TransferLimits(reservation_interval_seconds=60), grant()) == 200
    assert (counted.reserved, counted.confirmed) == (1, 1)


async def test_a_service_that_is_away_ends_no_upload_that_has_begun(storage: FileStorage, files: FilesClient) -> None:
    counted = Counted(files)
    uploading = asyncio.create_task(put(storage, counted, TransferLimits(reservation_interval_seconds=0.2), grant()))
    async with asyncio.timeout(10):
        while counted.reserved == 0:  # noqa: ASYNC110 - it is looked at from outside
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    counted.is_away = True
    assert await uploading == 200
    assert counted.reserved > 2


async def test_what_the_client_takes_is_not_held_against_the_storage(storage: FileStorage, files: FilesClient) -> None:
    limits = TransferLimits(storage_timeout_seconds=0.8)
    async with gateway(storage, files, limits) as client:
        answer = await client.put(await announced(grant()), content=slowly(TEXT, parts=2, seconds=1.2))
        assert answer.status_code == 200, answer.text


async def test_an_upload_that_takes_too_long_in_all_ends_whatever_its_rate(
    storage: FileStorage, store: Store, files: FilesClient
) -> None:
    limits = TransferLimits(total_timeout_seconds=1, minimum_rate=NO_RATE)
    async with gateway(storage, files, limits) as client:
        leave, began = grant(), time.monotonic()
        answer = await client.put(await announced(leave), content=slowly(TEXT, parts=60, seconds=0.1))
        assert time.monotonic() - began < 5
        assert (answer.status_code, answer.json()["errors"][0]["extensions"]["code"]) == (504, "TIMEOUT")
        assert store.content() == set()
        assert (await client.put(await announced(leave), content=TEXT)).status_code == 200


async def test_a_download_that_takes_too_long_in_all_ends_without_its_last_message(storage: FileStorage) -> None:
    size = 4 * MIB
    await store_zeros(storage, "t/slow", size, parts=4)
    limits, quota = TransferLimits(total_timeout_seconds=0.5, minimum_rate=NO_RATE), LocalQuota()
    downloads = Downloads(TransferDependencies(storage, SIGNER, member, quota, limits))
    sent: list[Message] = []

    async def slow(message: Message) -> None:
        sent.append(message)
        await asyncio.sleep(0.2)

    request = get(link("t/slow", size))
    response = await downloads.respond(request)
    async with asyncio.timeout(5):
        await response(request.scope, connected, slow)
    assert 2 <= len(sent) < 5
    assert all(message.get("more_body", True) for message in sent)


async def test_the_next_part_that_the_storage_does_not_give_in_time_ends_a_download(storage: FileStorage) -> None:
    seconds = 0.3

    class Stuck:
        async def size(self, key: str) -> int | None:
            return await storage.size(key)

        async def stream(self, key: str, size: int) -> AsyncIterator[bytes]:
            async for chunk in storage.stream(key, size):
                yield chunk[:1000]
                await asyncio.sleep(60)

    await store_zeros(storage, "t/stuck", 100_000)
    limits = TransferLimits(storage_timeout_seconds=seconds)
    stuck: FileStorage = Stuck()  # type: ignore[assignment]
    downloads = Downloads(TransferDependencies(stuck, SIGNER, member, LocalQuota(), limits))
    sent: list[Message] = []

    async def take(message: Message) -> None:
        sent.append(message)

    request, began = get(link("t/stuck", 100_000)), time.monotonic()
    response = await downloads.respond(request)
    async with asyncio.timeout(10):
        await response(request.scope, connected, take)
    assert seconds <= time.monotonic() - began < 5
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[-1]["more_body"]
