"""Quotas of transfers: a client that uses up its share does not prevent transfers of other clients."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import httpx
import pytest
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message

from contracts.base import new_id
from contracts.errors import RateLimited, UploadInProgress
from contracts.transfer_grants import UploadGrant
from gateway.transfers.dependencies import TransferDependencies
from gateway.transfers.downloads import Downloads
from gateway.transfers.limits import TransferLimits
from gateway.transfers.quota import TransferHolder, TransferQuota, TransferShares
from gateway.transfers.rate import MinimumRate, TransferRate
from infrastructure.limits.distributed_quota import DistributedQuota
from infrastructure.limits.quota import LocalQuota, Quota
from infrastructure.storage import FileStorage, open_storage
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
from tests.redis_access import open_redis

SHARES = TransferShares(process=20, url=2, user=3, tenant=5, address=7)
HOLDER = TransferHolder(url="url", user_id="user", tenant_id="tenant", client_network="192.0.2.1")


@pytest.fixture(params=["memory", "redis"])
async def quotas(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Quota, Quota]]:
    """The quotas of two gateways, in memory or in Redis; in memory both are the same."""
    if request.param == "memory":
        quota = LocalQuota()
        yield quota, quota
        return
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(open_redis(request.getfixturevalue("redis_url")))
        first, second = DistributedQuota(redis, b"s" * 32), DistributedQuota(redis, b"s" * 32)
        await stack.enter_async_context(first.running())
        await stack.enter_async_context(second.running())
        yield first, second


@pytest.mark.parametrize(
    ("shared_field", "limit"),
    [("url", 2), ("user_id", 3), ("tenant_id", 5), ("client_network", 7)],
)
async def test_share_is_bounded_and_does_not_affect_other_shares(
    quotas: tuple[Quota, Quota], shared_field: str, limit: int
) -> None:
    run = new_id("run")
    gateways = [TransferQuota("upload", SHARES, quota) for quota in quotas]

    def holder(number: int, **shared_value: str) -> TransferHolder:
        """Return a holder that differs from all others except in ``shared_value``."""
        return HOLDER._replace(**{name: f"{run}{number}{name}" for name in HOLDER._fields} | shared_value)

    async with AsyncExitStack() as stack:
        shared_value = {shared_field: f"{run} the same"}
        for number in range(limit):
            await stack.enter_async_context(gateways[number % 2].acquire(holder(number, **shared_value)))
        for each in gateways:
            with pytest.raises(RateLimited):
                await stack.enter_async_context(each.acquire(holder(100, **shared_value)))
        for each in gateways:
            await stack.enter_async_context(each.acquire(holder(200)))
    async with gateways[0].acquire(holder(100, **shared_value)):
        pass


async def test_limits_the_transfers_of_a_process(quotas: tuple[Quota, Quota]) -> None:
    transfer_client = TransferQuota("upload", SHARES.model_copy(update={"process": 2}), quotas[0])
    async with AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(transfer_client.acquire(TransferHolder(*(new_id("any") for _ in range(4)))))
        with pytest.raises(RateLimited):
            await stack.enter_async_context(transfer_client.acquire(TransferHolder(*(new_id("any") for _ in range(4)))))


async def test_second_transfer_of_a_single_use_url_is_refused_as_in_progress(quotas: tuple[Quota, Quota]) -> None:
    first, second = (TransferQuota("upload", SHARES.model_copy(update={"url": 1}), quota) for quota in quotas)
    url = new_id("url")
    async with first.acquire(HOLDER._replace(url=url)):
        with pytest.raises(UploadInProgress):
            await second.acquire(HOLDER._replace(url=url)).__aenter__()


@asynccontextmanager
async def slow_uploads(client: httpx.AsyncClient, grants: list[UploadGrant], begun: int) -> AsyncIterator[list[int]]:
    """Send one PUT for each grant that stops after some bytes; yield the statuses of the refused ones.

    Waits until this many uploads have begun and all others are refused.
    """
    may_continue, refused = asyncio.Event(), list[int]()

    async def send_slowly() -> AsyncIterator[bytes]:
        yield TEXT[:10_000]
        await may_continue.wait()

    async def put(upload_grant: UploadGrant) -> None:
        refused.append((await client.put(await registered_url(upload_grant), content=send_slowly())).status_code)

    tasks = [asyncio.create_task(put(upload_grant)) for upload_grant in grants]
    async with asyncio.timeout(20):
        while len(refused) < len(grants) - begun:  # noqa: ASYNC110 - the client has no event
            await asyncio.sleep(0.05)
    try:
        yield refused
    finally:
        may_continue.set()
        await asyncio.gather(*tasks)


async def test_slow_uploads_to_one_url_do_not_affect_other_uploads(storage: FileStorage, files: FilesClient) -> None:
    upload_grant = grant()
    async with transfer_client(storage, files) as client, slow_uploads(client, [upload_grant] * 64, begun=1) as refused:
        assert refused == [409] * 63
        began = time.monotonic()
        grants_of_the_same_user = grant().model_copy(
            update={"user_id": upload_grant.user_id, "tenant_id": upload_grant.tenant_id}
        )
        for other in (grants_of_the_same_user, grant()):
            assert (await client.put(await registered_url(other), content=TEXT)).status_code == 200
        assert time.monotonic() - began < 3


async def test_slow_uploads_of_one_user_do_not_affect_other_users_of_the_tenant(
    storage: FileStorage, files: FilesClient
) -> None:
    upload_grant = grant()
    grants_of_the_same_user = [
        grant().model_copy(update={"user_id": upload_grant.user_id, "tenant_id": upload_grant.tenant_id})
        for _ in range(20)
    ]
    async with (
        transfer_client(storage, files) as client,
        slow_uploads(client, grants_of_the_same_user, begun=6) as refused,
    ):
        assert refused == [429] * 14
        grant_of_a_colleague = grant().model_copy(update={"tenant_id": upload_grant.tenant_id})
        assert (await client.put(await registered_url(grant_of_a_colleague), content=TEXT)).status_code == 200


async def test_upload_below_the_minimum_rate_ends_and_frees_its_url(
    storage: FileStorage, store: Store, files: FilesClient
) -> None:
    upload_grant = grant()

    async def byte_by_byte() -> AsyncIterator[bytes]:
        for byte in TEXT:
            yield bytes((byte,))
            await asyncio.sleep(0.02)

    limits = TransferLimits(minimum_rate=MinimumRate(window_seconds=0.5))
    async with transfer_client(storage, files, limits) as client:
        began = time.monotonic()
        response = await client.put(await registered_url(upload_grant), content=byte_by_byte())
        assert time.monotonic() - began < 3
        assert (response.status_code, response.json()["errors"][0]["extensions"]["code"]) == (504, "TIMEOUT")
        assert store.content() == set()
        assert (await client.put(await registered_url(upload_grant), content=TEXT)).status_code == 200


@pytest.fixture
async def large_object(transfer_server: tuple[str, Store]) -> tuple[str, int]:
    """Key and size of an object that is larger than the buffers of a socket."""
    await store_zeros(open_storage(transfer_server[1].url), "t/big", 24 * MIB, parts=24)
    return "t/big", 24 * MIB


async def test_ended_download_frees_its_slot_immediately(storage: FileStorage, files: FilesClient) -> None:
    """The slot is free even while the response object still exists, without garbage collection."""
    await store_zeros(storage, "t/small", 100_000)
    limits = TransferLimits(downloads=TransferShares(process=1, url=1, user=1, tenant=1, address=1))
    quota, path = LocalQuota(), download_path("t/small", 100_000)
    downloads = Downloads(TransferDependencies(storage, SIGNER, member, quota, limits))
    stack: list[Response] = []

    async def accept_message(_: Message) -> None:
        pass

    async def fail_to_send(message: Message) -> None:
        if message["type"] == "http.response.body":
            raise OSError

    for send in (accept_message, fail_to_send, accept_message):
        request = download_request(path)
        stack.append(await downloads.respond(request))
        assert stack[-1].status_code == 200
        with suppress(ClientDisconnect):
            await stack[-1](request.scope, receive_nothing, send)
        assert quota._held == {}  # noqa: SLF001 - the slots that other requests would find


async def test_slow_readers_of_one_url_end_and_do_not_affect_other_downloads(
    transfer_server: tuple[str, Store], large_object: tuple[str, int]
) -> None:
    """The server allows two transfers per URL and measures the rate over four seconds."""
    path = download_path(*large_object)
    host, port = transfer_server[0].removeprefix("http://").split(":")

    async def read_slowly() -> None:
        reader, writer = await asyncio.open_connection(host, int(port), limit=1)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        try:
            while await reader.read(1):  # noqa: ASYNC110 - the pause makes the reader slow
                await asyncio.sleep(0.2)
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    slow_readers = [asyncio.create_task(read_slowly()) for _ in range(2)]
    try:
        await asyncio.sleep(0.5)
        async with httpx.AsyncClient(base_url=transfer_server[0], timeout=30) as client:
            assert (await client.get(path)).status_code == 429
            began = time.monotonic()
            assert len((await client.get(download_path(*large_object))).content) == large_object[1]
            assert time.monotonic() - began < 10
            async with asyncio.timeout(30):
                while (await client.head(path)).status_code == 429:  # noqa: ASYNC110 - the state is in another process
                    await asyncio.sleep(0.5)
    finally:
        for task in slow_readers:
            task.cancel()
        await asyncio.gather(*slow_readers, return_exceptions=True)


async def read_all(chunks: AsyncIterator[bytes]) -> int:
    """Read all chunks and return their total size in bytes."""
    return sum([len(chunk) async for chunk in chunks])


@pytest.mark.parametrize("is_http_2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
async def test_interrupted_download_is_an_error_for_its_client(
    transfer_server: tuple[str, Store], large_object: tuple[str, int], is_http_2: bool
) -> None:
    """The server disconnects a client that reads nothing for four seconds; its HTTP/2 connection stays usable."""
    async with httpx.AsyncClient(
        base_url=transfer_server[0], http1=not is_http_2, http2=is_http_2, timeout=20
    ) as client:
        async with client.stream("GET", download_path(*large_object)) as download:
            assert download.http_version == ("HTTP/2" if is_http_2 else "HTTP/1.1")
            chunks = download.aiter_raw()
            await anext(chunks)
            await asyncio.sleep(9)
            with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                await asyncio.wait_for(read_all(chunks), 5)
        if is_http_2:
            connection = download.extensions["network_stream"]
            again = await client.get(download_path(*large_object))
            assert len(again.content) == large_object[1]
            assert again.extensions["network_stream"] is connection


async def test_reader_above_the_minimum_rate_receives_the_whole_object(
    transfer_server: tuple[str, Store], large_object: tuple[str, int]
) -> None:
    host, port = transfer_server[0].removeprefix("http://").split(":")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, (host, int(port)))
        await loop.sock_sendall(
            connection, f"GET {download_path(*large_object)} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        )
        slow_until, received = time.monotonic() + 10, 0
        async with asyncio.timeout(60):
            while received < large_object[1] and (chunk := await loop.sock_recv(connection, 80 * 1024)):
                received += len(chunk)
                if time.monotonic() < slow_until:
                    await asyncio.sleep(0.5)  # at most 160 KiB/s because the buffer is small
    assert received >= large_object[1]


@pytest.mark.parametrize(
    ("pause_seconds", "size", "is_too_slow"),
    [
        (12.0, 1, True),
        (0.25, 4 * 1024 - 200, True),
        (0.25, 4 * 1024 + 200, False),
        (2.0, 32 * 1024 + 1000, False),
        (5.0, 60 * 1024, True),
        (5.0, 100 * 1024, False),
        (29.0, 600 * 1024, False),
    ],
)
def test_rate_is_averaged_over_half_a_minute(pause_seconds: float, size: int, is_too_slow: bool) -> None:
    """The client transfers ``size`` bytes every ``pause_seconds``, with the default limits."""
    rate = TransferRate(TransferLimits().minimum_rate)
    elapsed_seconds = 0.0
    try:
        while elapsed_seconds < 600:
            if pause_seconds > rate.timeout():
                raise TimeoutError
            rate.add(pause_seconds, size)
            elapsed_seconds += pause_seconds
    except TimeoutError:
        assert is_too_slow
        assert elapsed_seconds <= 60
    else:
        assert not is_too_slow


def test_default_transfer_limits() -> None:
    limits = TransferLimits()
    assert (limits.minimum_rate.bytes_per_second, limits.minimum_rate.window_seconds) == (16 * 1024, 30.0)
    assert limits.uploads == TransferShares(process=64, url=1, user=6, tenant=16, address=12)
    assert limits.downloads == TransferShares(process=256, url=8, user=12, tenant=64, address=32)
    assert (limits.reservation_interval_seconds, limits.total_timeout_seconds, limits.storage_timeout_seconds) == (
        200.0,
        3600.0,
        8.0,
    )
