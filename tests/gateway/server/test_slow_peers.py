"""Every wait for a client has a timeout, so a client that does not read or disconnects holds no resources."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hyperframe.frame import SettingsFrame

from contracts.auth import Session
from tests.gateway.fakes import TOKEN, FakeServices, session, settings
from tests.gateway.live_gateway import running_gateway, wait_until

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SettingsFrame(0).serialize()
SCHEMA = b"GET /graphql/schema HTTP/1.1\r\nHost: localhost\r\n%s\r\n"
BODY = b'{"query":"{ viewer { user { id } } }"}'
VIEWER = (
    b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Authorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s" % (TOKEN.encode(), len(BODY), BODY)
)


@asynccontextmanager
async def client_connection(port: int, sent: bytes) -> AsyncIterator[socket.socket]:
    """Open a connection with small buffers, send these bytes and never read."""
    loop = asyncio.get_running_loop()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        await loop.sock_connect(connection, ("127.0.0.1", port))
        await loop.sock_sendall(connection, sent)
        yield connection


@pytest.mark.parametrize(
    "sent",
    [SCHEMA % b"" * 20, SCHEMA % b"" * 3 + SCHEMA % b"Connection: close\r\n"],
    ids=["more responses than buffers hold", "the last responses of a connection"],
)
async def test_disconnects_a_client_that_does_not_read(temporal_address: str, tmp_path: Path, sent: bytes) -> None:
    async with running_gateway(
        settings(temporal_address, data_dir=tmp_path), FakeServices(), write_timeout_seconds=0.5
    ) as gateway:
        before = len(asyncio.all_tasks())
        async with client_connection(gateway.port, sent):
            await wait_until(lambda: len(asyncio.all_tasks()) > before, 5)
            await asyncio.sleep(0.2)
            assert len(asyncio.all_tasks()) > before
            await wait_until(lambda: len(asyncio.all_tasks()) <= before, 12)


async def test_connection_ends_with_a_request_whose_client_has_disconnected(
    temporal_address: str, tmp_path: Path
) -> None:
    services, release, was_called = FakeServices(), asyncio.Event(), asyncio.Event()

    async def find_session(_: object, __: object) -> Session:
        was_called.set()
        await release.wait()
        return session()

    services.handlers["auth/get_current_session"] = find_session
    async with running_gateway(settings(temporal_address, data_dir=tmp_path), services) as gateway:
        before = len(asyncio.all_tasks())
        async with client_connection(gateway.port, VIEWER):
            await asyncio.wait_for(was_called.wait(), 10)
        await asyncio.sleep(0.2)  # by now the server has noticed that the client has disconnected
        release.set()
        await wait_until(lambda: len(asyncio.all_tasks()) <= before, 10)


async def test_closes_an_idle_http_2_connection_without_any_request(temporal_address: str, tmp_path: Path) -> None:
    gateway_settings = settings(temporal_address, data_dir=tmp_path)
    async with running_gateway(gateway_settings, FakeServices(), keep_alive_seconds=1) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(PREFACE)
        async with asyncio.timeout(10):
            assert await reader.read()
            assert reader.at_eof()
        writer.close()
