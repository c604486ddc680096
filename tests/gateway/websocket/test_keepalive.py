"""Peers that went silent and peers that stopped reading: they go, and nobody else notices."""

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

from tests.gateway.fakes import ADA, Services, settings
from tests.gateway.live_gateway import FOLLOW, WHO, Socket, deaf_socket, introduction, running_gateway, until
from tests.resolvers.scripted import scripts

SILENT = 4408
MUCH = " ".join(f"{letter * 1000}: cursor" for letter in "abcdefghijklm")
"""Few fields, as documents may have, that make each state 14 KiB long."""

FOLLOW_MUCH = f"subscription ($id: ID!) {{ operation(id: $id) {{ id status {MUCH} }} }}"

STATE_BYTES = 2 * 1024
"""Less than anything that is kept of a state, even once for all who follow: its steps alone take more."""
MOVES_BETWEEN = 10
"""Between two looks at the memory."""


@pytest.fixture
def bytes_held() -> Iterator[Callable[[], int]]:
    """Tells what the process holds that it did not before the test; garbage does not count, nor what the allocator
    keeps for itself: both depend on what ran before.
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


def impatient(address: str, folder: Path, **others: Any) -> Any:
    return settings(address, data_dir=folder, **{"ping_interval_seconds": 1, "pong_timeout_seconds": 1, **others})


async def test_a_peer_that_answers_pings_stays(temporal_address: str, services: Services, tmp_path: Path) -> None:
    async with running_gateway(impatient(temporal_address, tmp_path), services) as gateway, gateway.open() as sock:
        for _ in range(3):
            assert await sock.next() == {"type": "ping"}
            await sock.say({"type": "pong"})
        assert (await sock.ask(WHO))[0]["payload"]["data"] == {"viewer": None}


async def test_whatever_a_peer_says_is_a_sign_of_life(
    temporal_address: str, services: Services, tmp_path: Path
) -> None:
    async with running_gateway(impatient(temporal_address, tmp_path), services) as gateway, gateway.open() as sock:
        for _ in range(8):
            await asyncio.sleep(0.5)
            await sock.say({"type": "ping", "payload": {"my": "own"}})
        told: list[str] = []
        while told.count("pong") < 8:
            told.append((await sock.next())["type"])
    assert set(told) == {"ping", "pong"}


async def test_a_silent_peer_is_closed_with_a_code_at_which_clients_come_back(
    temporal_address: str, services: Services, tmp_path: Path
) -> None:
    async with running_gateway(impatient(temporal_address, tmp_path), services) as gateway, gateway.open() as sock:
        begun = time.monotonic()
        assert await sock.end() == SILENT
        assert 1.9 < time.monotonic() - begun < 4


async def test_a_peer_that_does_not_even_answer_the_close_is_left_alone(
    temporal_address: str, services: Services, tmp_path: Path
) -> None:
    async with (
        running_gateway(impatient(temporal_address, tmp_path), services) as gateway,
        deaf_socket(gateway) as deaf,
    ):
        await until(lambda: len(gateway.app.streams) == 1)
        await until(lambda: len(gateway.app.streams) == 0)
        told, code = await deaf.read()
    assert [message["type"] for message in told] == ["connection_ack", "ping"]
    assert code == SILENT


@pytest.mark.parametrize("keeps_talking", [False, True])
async def test_who_stops_reading_is_cut_off_grows_no_memory_and_delays_nobody(
    temporal_address: str,
    temporal_client: Client,
    services: Services,
    tmp_path: Path,
    bytes_held: Callable[[], int],
    keeps_talking: bool,
) -> None:
    """One that keeps talking shows signs of life, and still takes nothing."""
    patient = (
        {"ping_interval_seconds": 60} if keeps_talking else {"ping_interval_seconds": 10, "pong_timeout_seconds": 2}
    )
    known = settings(temporal_address, data_dir=tmp_path, write_timeout_seconds=12, **patient)
    async with (
        scripts(temporal_client) as starter,
        running_gateway(known, services, write_timeout_seconds=12) as gateway,
        gateway.open(introduction(), max_queue=None) as reader,
    ):
        script = await starter.start(user_id=ADA)
        await reader.subscribe(FOLLOW, id=script.id)
        await reader.next()
        async with deaf_socket(gateway) as slow:
            for number in range(20):
                query = {"query": FOLLOW_MUCH, "variables": {"id": script.id}}
                await slow.say({"id": str(number), "type": "subscribe", "payload": query})
            begun, delays, memory = time.monotonic(), list[float](), list[int]()
            while len(gateway.app.streams) > 1:
                assert time.monotonic() - begun < 60, "it was not cut off"
                moved = time.monotonic()
                await script.move()
                await next_state(reader)
                delays.append(time.monotonic() - moved)
                if len(delays) % MOVES_BETWEEN == 0:
                    memory.append(bytes_held())
                if keeps_talking:
                    await slow.say({"type": "pong"})
        await script.end()
    full = len(memory) // 2  # of what the network takes, and of what Python keeps for itself
    grown = [later - earlier for earlier, later in pairwise(memory[full:])]
    assert len(grown) >= 2, f"only {len(delays)} states were to be told"
    # What is kept of each state grows the memory every time; what is loaded once grows it once.
    assert statistics.median(grown) < MOVES_BETWEEN * STATE_BYTES, memory
    # A stalled reader that held the others up would do so until it is cut off, write_timeout_seconds later.
    assert sorted(delays)[len(delays) // 2] < 1.5, delays


async def next_state(sock: Socket) -> None:
    """Past pings, which it answers."""
    while (await sock.next())["type"] == "ping":
        await sock.say({"type": "pong"})
