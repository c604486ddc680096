"""The gateway disconnects peers that are silent or that stop reading, without effect on other peers."""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client

from tests.gateway.fakes import ADA, FakeServices, settings
from tests.gateway.live_gateway import (
    FOLLOW,
    VIEWER_QUERY,
    Socket,
    authorization,
    non_reading_socket,
    running_gateway,
    wait_until,
)
from tests.resolvers.scripted import scripts

CLOSE_PONG_TIMEOUT = 4408
MANY_ALIASES = " ".join(f"{letter * 1000}: cursor" for letter in "abcdefghijklm")
"""A few aliases that make each state 14 KiB long."""

FOLLOW_WITH_MANY_ALIASES = f"subscription ($id: ID!) {{ operation(id: $id) {{ id status {MANY_ALIASES} }} }}"

STATE_BYTES = 2 * 1024
"""Less than any retained state takes, even if all subscribers share it: its steps alone take more."""
STATES_PER_SAMPLE = 10
"""Number of states between two samples of the memory."""


@pytest.fixture
def allocated_bytes() -> Iterator[Callable[[], int]]:
    """A function that returns the bytes that Python objects have taken since the start of the test.

    Garbage and the reserves of the allocator do not count: both depend on earlier tests.
    """

    def held() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    gc.collect()
    gc.freeze()
    tracemalloc.start()
    yield held
    tracemalloc.stop()
    gc.unfreeze()


def settings_with_short_timeouts(address: str, folder: Path, **others: Any) -> Any:
    """Return settings with a ping interval and a pong timeout of one second."""
    return settings(address, data_dir=folder, **{"ping_interval_seconds": 1, "pong_timeout_seconds": 1, **others})


async def test_keeps_a_peer_that_answers_pings(temporal_address: str, services: FakeServices, tmp_path: Path) -> None:
    async with (
        running_gateway(settings_with_short_timeouts(temporal_address, tmp_path), services) as gateway,
        gateway.open() as sock,
    ):
        for _ in range(3):
            assert await sock.receive() == {"type": "ping"}
            await sock.send({"type": "pong"})
        assert (await sock.execute(VIEWER_QUERY))[0]["payload"]["data"] == {"viewer": None}


async def test_any_message_from_the_peer_counts_as_a_heartbeat(
    temporal_address: str, services: FakeServices, tmp_path: Path
) -> None:
    async with (
        running_gateway(settings_with_short_timeouts(temporal_address, tmp_path), services) as gateway,
        gateway.open() as sock,
    ):
        for _ in range(8):
            await asyncio.sleep(0.5)
            await sock.send({"type": "ping", "payload": {"my": "own"}})
        received: list[str] = []
        while received.count("pong") < 8:
            received.append((await sock.receive())["type"])
    assert set(received) == {"ping", "pong"}


async def test_closes_a_silent_peer_with_a_code_after_which_clients_reconnect(
    temporal_address: str, services: FakeServices, tmp_path: Path
) -> None:
    async with (
        running_gateway(settings_with_short_timeouts(temporal_address, tmp_path), services) as gateway,
        gateway.open() as sock,
    ):
        begun = time.monotonic()
        assert await sock.wait_for_close() == CLOSE_PONG_TIMEOUT
        assert 1.9 < time.monotonic() - begun < 4


async def test_disconnects_a_peer_that_does_not_answer_the_close_frame(
    temporal_address: str, services: FakeServices, tmp_path: Path
) -> None:
    async with (
        running_gateway(settings_with_short_timeouts(temporal_address, tmp_path), services) as gateway,
        non_reading_socket(gateway) as non_reading,
    ):
        await wait_until(lambda: len(gateway.app.streams) == 1)
        await wait_until(lambda: len(gateway.app.streams) == 0)
        received, code = await non_reading.read()
    assert [message["type"] for message in received] == ["connection_ack", "ping"]
    assert code == CLOSE_PONG_TIMEOUT


@pytest.mark.parametrize("keeps_sending", [False, True])
async def test_disconnects_a_peer_that_stops_reading_without_memory_growth_or_delays(
    temporal_address: str,
    temporal_client: Client,
    services: FakeServices,
    tmp_path: Path,
    allocated_bytes: Callable[[], int],
    keeps_sending: bool,
) -> None:
    """A peer that keeps sending counts as alive but still reads nothing."""
    keepalive = (
        {"ping_interval_seconds": 60} if keeps_sending else {"ping_interval_seconds": 10, "pong_timeout_seconds": 2}
    )
    configured = settings(temporal_address, data_dir=tmp_path, write_timeout_seconds=12, **keepalive)
    async with (
        scripts(temporal_client) as starter,
        running_gateway(configured, services, write_timeout_seconds=12) as gateway,
        gateway.open(authorization(), max_queue=None) as reader,
    ):
        script = await starter.start(user_id=ADA)
        await reader.subscribe(FOLLOW, id=script.id)
        await reader.receive()
        async with non_reading_socket(gateway) as slow:
            for number in range(20):
                query = {"query": FOLLOW_WITH_MANY_ALIASES, "variables": {"id": script.id}}
                await slow.send({"id": str(number), "type": "subscribe", "payload": query})
            begun, delays, memory = time.monotonic(), list[float](), list[int]()
            while len(gateway.app.streams) > 1:
                assert time.monotonic() - begun < 60, "the peer was not disconnected"
                moved_at = time.monotonic()
                await script.move()
                await next_state(reader)
                delays.append(time.monotonic() - moved_at)
                if len(delays) % STATES_PER_SAMPLE == 0:
                    memory.append(allocated_bytes())
                if keeps_sending:
                    await slow.send({"type": "pong"})
        await script.end()
    warm_up = len(memory) // 2  # the buffers of the network and the caches of Python fill up first
    growth = [later - earlier for earlier, later in pairwise(memory[warm_up:])]
    assert len(growth) >= 2, f"only {len(delays)} states were sent"
    # A leak per state grows the memory in every sample; objects that are loaded once grow it once.
    assert statistics.median(growth) < STATES_PER_SAMPLE * STATE_BYTES, memory
    # A stalled peer that blocked the others would block them until its write timeout.
    assert sorted(delays)[len(delays) // 2] < 1.5, delays


async def next_state(sock: Socket) -> None:
    """Receive the next state and answer pings before it."""
    while (await sock.receive())["type"] == "ping":
        await sock.send({"type": "pong"})
