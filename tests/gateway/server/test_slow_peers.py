"""A peer that does not read, or that leaves, occupies nothing for long: each wait for a peer has a time limit."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hyperframe.frame import SettingsFrame

from contracts.auth import Session
from tests.gateway.fakes import TOKEN, Services, session, settings
from tests.gateway.live_gateway import running_gateway, until

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SettingsFrame(0).serialize()
SCHEMA = b"GET /graphql/schema HTTP/1.1\r\nHost: localhost\r\n%s\r\n"
BODY = b'{"query":"{ viewer { user { id } } }"}'
VIEWER = (
    b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Authorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s" % (TOKEN.encode(), len(BODY), BODY)
)


@asynccontextmanager
async def peer(port: int, sent: bytes) -> AsyncIterator[socket.socket]:
    """A connection that has sent these bytes, with small buffers, and that is not read."""
    loop = asyncio.get_running_loop()
    with socket.socket() as network:
        network.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        network.setblocking(False)
        await loop.sock_connect(network, ("127.0.0.1", port))
        await loop.sock_sendall(network, sent)
        yield network


@pytest.mark.parametrize(
    "sent",
    [SCHEMA % b"" * 20, SCHEMA % b"" * 3 + SCHEMA % b"Connection: close\r\n"],
    ids=["more responses than buffers hold", "the last responses of a connection"],
)
async def test_peer_that_does_not_read_is_disconnected(temporal_address: str, tmp_path: Path, sent: bytes) -> None:
    async with running_gateway(
        settings(temporal_address, data_dir=tmp_path), Services(), write_timeout_seconds=0.5
    ) as gateway:
        before = len(asyncio.all_tasks())
        async with peer(gateway.port, sent):
            await until(lambda: len(asyncio.all_tasks()) > before, 5)
            await asyncio.sleep(0.2)
            assert len(asyncio.all_tasks()) > before
            await until(lambda: len(asyncio.all_tasks()) <= before, 12)


async def test_connection_ends_with_the_request_that_its_peer_did_not_wait_for(
    temporal_address: str, tmp_path: Path
) -> None:
    services, release, asked = Services(), asyncio.Event(), asyncio.Event()

    async def find_session(_: object, __: object) -> Session:
        asked.set()
        await release.wait()
        return session()

    services.handlers["auth/get_current_session"] = find_session
    async with running_gateway(settings(temporal_address, data_dir=tmp_path), services) as gateway:
        before = len(asyncio.all_tasks())
        async with peer(gateway.port, VIEWER):
            await asyncio.wait_for(asked.wait(), 10)
        await asyncio.sleep(0.2)  # the server has noticed that the peer has left
        release.set()
        await until(lambda: len(asyncio.all_tasks()) <= before, 10)


async def test_idle_http_2_connection_without_any_request_is_closed(temporal_address: str, tmp_path: Path) -> None:
    configured = settings(temporal_address, data_dir=tmp_path)
    async with running_gateway(configured, Services(), keep_alive_seconds=1) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(PREFACE)
        async with asyncio.timeout(10):
            assert await reader.read()
            assert reader.at_eof()
        writer.close()
