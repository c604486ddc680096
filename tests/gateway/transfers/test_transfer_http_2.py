"""A download over HTTP/2 whose client never opens the window holds neither a quota slot nor memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import StreamReset
from h2.settings import SettingCodes

from contracts.base import new_id
from infrastructure.storage import open_storage
from tests.gateway.transfers.stores import Store
from tests.gateway.transfers.transferring import MIB, download_path

MAX_PEAK_GROWTH_BYTES = 16 * MIB
SIZES = {"larger than all buffers": 64 * MIB, "in one chunk": 100_000}


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
async def test_disconnects_a_download_with_an_empty_window_and_frees_its_memory(
    transfer_server: tuple[str, Store], size: int
) -> None:
    """The server measures the rate over four seconds."""
    url, store = transfer_server
    key = f"t/{new_id('fil')}"

    async def zeros() -> AsyncIterator[bytes]:
        for begin in range(0, size, MIB):
            yield bytes(min(MIB, size - begin))

    await open_storage(store.url).save(key, zeros())
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        before = int((await client.get("/peak")).text)
        async with asyncio.timeout(20):
            await wait_for_reset(url, download_path(key, size))
        assert int((await client.get("/peak")).text) - before < MAX_PEAK_GROWTH_BYTES


async def wait_for_reset(url: str, path: str) -> None:
    """Request the path with an empty window; return when the server resets the stream."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    peer = H2Connection(H2Configuration(client_side=True))
    peer.initiate_connection()
    peer.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
    head = [(":method", "GET"), (":path", path), (":scheme", "http"), (":authority", host)]
    peer.send_headers(1, head, end_stream=True)
    try:
        while True:
            writer.write(peer.data_to_send())
            received = await reader.read(65536)
            assert received, "the server closed the connection"
            if any(isinstance(event, StreamReset) for event in peer.receive_data(received)):
                return
    finally:
        writer.transport.abort()
