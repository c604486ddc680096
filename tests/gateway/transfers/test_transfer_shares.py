"""One client at its worst leaves the others their transfers."""

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
from tests.gateway.transfers.transferring import MIB, TEXT, announced, connected, gateway, get, grant, link, store_zeros
from tests.redis_access import open_redis

SHARES = TransferShares(process=20, url=2, user=3, tenant=5, address=7)
HOLDER = TransferHolder(url="url", user_id="user", tenant_id="tenant", client_network="192.0.2.1")


@pytest.fixture(params=["memory", "redis"])
async def quotas(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Quota, Quota]]:
    """What two gateways count with: in memory it is one gateway."""
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
    ("shared", "limit"),
    [("url", 2), ("user_id", 3), ("tenant_id", 5), ("client_network", 7)],
)
async def test_a_share_is_bounded_and_leaves_all_others_theirs(
    quotas: tuple[Quota, Quota], shared: str, limit: int
) -> None:
    run = new_id("run")
    gateways = [TransferQuota("upload", SHARES, quota) for quota in quotas]

    def holder(number: int, **same: str) -> TransferHolder:
        """Another one in everything but ``same``."""
        return HOLDER._replace(**{name: f"{run}{number}{name}" for name in HOLDER._fields} | same)

    async with AsyncExitStack() as held:
        same = {shared: f"{run} the same"}
        for number in range(limit):
            await held.enter_async_context(gateways[number % 2].acquire(holder(number, **same)))
        for each in gateways:
            with pytest.raises(RateLimited):
                await held.enter_async_context(each.acquire(holder(100, **same)))
        for each in gateways:
            await held.enter_async_context(each.acquire(holder(200)))
    async with gateways[0].acquire(holder(100, **same)):
        pass


async def test_a_process_runs_no_more_transfers_than_it_can(quotas: tuple[Quota, Quota]) -> None:
    gateway = TransferQuota("upload", SHARES.model_copy(update={"process": 2}), quotas[0])
    async with AsyncExitStack() as held:
        for _ in range(2):
            await held.enter_async_context(gateway.acquire(TransferHolder(*(new_id("any") for _ in range(4)))))
        with pytest.raises(RateLimited):
            await held.enter_async_context(gateway.acquire(TransferHolder(*(new_id("any") for _ in range(4)))))


async def test_a_url_that_allows_one_transfer_says_that_it_is_in_progress(quotas: tuple[Quota, Quota]) -> None:
    first, second = (TransferQuota("upload", SHARES.model_copy(update={"url": 1}), quota) for quota in quotas)
    url = new_id("url")
    async with first.acquire(HOLDER._replace(url=url)):
        with pytest.raises(UploadInProgress):
            await second.acquire(HOLDER._replace(url=url)).__aenter__()


@asynccontextmanager
async def slow_uploads(client: httpx.AsyncClient, grants: list[UploadGrant], begun: int) -> AsyncIterator[list[int]]:
    """One PUT for each grant that sends some bytes and then none, once so many have begun and all others are refused;
    the statuses of these.
    """
    may_end, refused = asyncio.Event(), list[int]()

    async def drip() -> AsyncIterator[bytes]:
        yield TEXT[:10_000]
        await may_end.wait()

    async def put(leave: UploadGrant) -> None:
        refused.append((await client.put(await announced(leave), content=drip())).status_code)

    tasks = [asyncio.create_task(put(leave)) for leave in grants]
    async with asyncio.timeout(20):
        while len(refused) < len(grants) - begun:  # noqa: ASYNC110 - the client has no event for it
            await asyncio.sleep(0.05)
    try:
        yield refused
    finally:
        may_end.set()
        await asyncio.gather(*tasks)


async def test_64_slow_uploads_to_one_url_leave_all_others_theirs(storage: FileStorage, files: FilesClient) -> None:
    leave = grant()
    async with gateway(storage, files) as client, slow_uploads(client, [leave] * 64, begun=1) as refused:
        assert refused == [409] * 63
        began = time.monotonic()
        of_the_same_user = grant().model_copy(update={"user_id": leave.user_id, "tenant_id": leave.tenant_id})
        for other in (of_the_same_user, grant()):
            assert (await client.put(await announced(other), content=TEXT)).status_code == 200
        assert time.monotonic() - began < 3


async def test_slow_uploads_of_one_user_leave_the_users_of_the_tenant_theirs(
    storage: FileStorage, files: FilesClient
) -> None:
    leave = grant()
    of_the_same_user = [
        grant().model_copy(update={"user_id": leave.user_id, "tenant_id": leave.tenant_id}) for _ in range(20)
    ]
    async with gateway(storage, files) as client, slow_uploads(client, of_the_same_user, begun=6) as refused:
        assert refused == [429] * 14
        colleague = grant().model_copy(update={"tenant_id": leave.tenant_id})
        assert (await client.put(await announced(colleague), content=TEXT)).status_code == 200


async def test_an_upload_below_the_minimum_rate_ends_and_its_url_is_free(
    storage: FileStorage, store: Store, files: FilesClient
) -> None:
    leave = grant()

    async def byte_by_byte() -> AsyncIterator[bytes]:
        for byte in TEXT:
            yield bytes((byte,))
            await asyncio.sleep(0.02)

    limits = TransferLimits(minimum_rate=MinimumRate(window_seconds=0.5))
    async with gateway(storage, files, limits) as client:
        began = time.monotonic()
        answer = await client.put(await announced(leave), content=byte_by_byte())
        assert time.monotonic() - began < 3
        assert (answer.status_code, answer.json()["errors"][0]["extensions"]["code"]) == (504, "TIMEOUT")
        assert store.content() == set()
        assert (await client.put(await announced(leave), content=TEXT)).status_code == 200


@pytest.fixture
async def big(served: tuple[str, Store]) -> tuple[str, int]:
    """Key and size of an object that no socket's buffers hold."""
    await store_zeros(open_storage(served[1].url), "t/big", 24 * MIB, parts=24)
    return "t/big", 24 * MIB


async def test_a_download_that_has_ended_in_whatever_way_gives_its_place_back_at_once(
    storage: FileStorage, files: FilesClient
) -> None:
    """Also while its response is still held: it is not left to Python's garbage collector."""
    await store_zeros(storage, "t/small", 100_000)
    limits = TransferLimits(downloads=TransferShares(process=1, url=1, user=1, tenant=1, address=1))
    quota, path = LocalQuota(), link("t/small", 100_000)
    downloads = Downloads(TransferDependencies(storage, SIGNER, member, quota, limits))
    held: list[Response] = []

    async def taken(_: Message) -> None:
        pass

    async def gone(message: Message) -> None:
        if message["type"] == "http.response.body":
            raise OSError

    for send in (taken, gone, taken):
        request = get(path)
        held.append(await downloads.respond(request))
        assert held[-1].status_code == 200
        with suppress(ClientDisconnect):
            await held[-1](request.scope, connected, send)
        assert quota._held == {}  # noqa: SLF001 - what other requests would find


async def test_slow_readers_of_one_url_end_and_leave_all_others_theirs(
    served: tuple[str, Store], big: tuple[str, int]
) -> None:
    """The server allows two transfers of a URL, and measures the rate over four seconds."""
    path = link(*big)
    host, port = served[0].removeprefix("http://").split(":")

    async def read_slowly() -> None:
        reader, writer = await asyncio.open_connection(host, int(port), limit=1)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        try:
            while await reader.read(1):  # noqa: ASYNC110 - the pause is the point
                await asyncio.sleep(0.2)
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    slow = [asyncio.create_task(read_slowly()) for _ in range(2)]
    try:
        await asyncio.sleep(0.5)
        async with httpx.AsyncClient(base_url=served[0], timeout=30) as client:
            assert (await client.get(path)).status_code == 429
            began = time.monotonic()
            assert len((await client.get(link(*big))).content) == big[1]
            assert time.monotonic() - began < 10
            async with asyncio.timeout(30):
                while (await client.head(path)).status_code == 429:  # noqa: ASYNC110 - another process changes it
                    await asyncio.sleep(0.5)
    finally:
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)


async def read_all(chunks: AsyncIterator[bytes]) -> int:
    return sum([len(chunk) async for chunk in chunks])


@pytest.mark.parametrize("is_http_2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
async def test_a_download_that_is_cut_off_ends_with_an_error_at_its_client(
    served: tuple[str, Store], big: tuple[str, int], is_http_2: bool
) -> None:
    """The server gives a client up that takes nothing for four seconds. Its connection is of use for other requests."""
    async with httpx.AsyncClient(base_url=served[0], http1=not is_http_2, http2=is_http_2, timeout=20) as client:
        async with client.stream("GET", link(*big)) as download:
            assert download.http_version == ("HTTP/2" if is_http_2 else "HTTP/1.1")
            chunks = download.aiter_raw()
            await anext(chunks)
            await asyncio.sleep(9)
            with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                await asyncio.wait_for(read_all(chunks), 5)
        if is_http_2:
            connection = download.extensions["network_stream"]
            again = await client.get(link(*big))
            assert len(again.content) == big[1]
            assert again.extensions["network_stream"] is connection


async def test_a_reader_above_the_minimum_rate_gets_all_of_it(served: tuple[str, Store], big: tuple[str, int]) -> None:
    host, port = served[0].removeprefix("http://").split(":")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, (host, int(port)))
        await loop.sock_sendall(connection, f"GET {link(*big)} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        slow_until, received = time.monotonic() + 10, 0
        async with asyncio.timeout(60):
            while received < big[1] and (piece := await loop.sock_recv(connection, 80 * 1024)):
                received += len(piece)
                if time.monotonic() < slow_until:
                    await asyncio.sleep(0.5)  # 160 KiB/s at most, as its buffer is small
    assert received >= big[1]


@pytest.mark.parametrize(
    ("seconds", "size", "is_too_slow"),
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
def test_a_rate_is_averaged_over_half_a_minute(seconds: float, size: int, is_too_slow: bool) -> None:
    """``size`` bytes every ``seconds``, as the shipped limits judge them."""
    rate = TransferRate(TransferLimits().minimum_rate)
    passed = 0.0
    try:
        while passed < 600:
            if seconds > rate.timeout():
                raise TimeoutError
            rate.add(seconds, size)
            passed += seconds
    except TimeoutError:
        assert is_too_slow
        assert passed <= 60
    else:
        assert not is_too_slow


def test_the_limits_that_are_shipped() -> None:
    limits = TransferLimits()
    assert (limits.minimum_rate.bytes_per_second, limits.minimum_rate.window_seconds) == (16 * 1024, 30.0)
    assert limits.uploads == TransferShares(process=64, url=1, user=6, tenant=16, address=12)
    assert limits.downloads == TransferShares(process=256, url=8, user=12, tenant=64, address=32)
    assert (limits.reservation_interval_seconds, limits.total_timeout_seconds, limits.storage_timeout_seconds) == (
        200.0,
        3600.0,
        8.0,
    )
