"""What is kept at hand of what users have under way, where there is not room for all."""

from __future__ import annotations

import asyncio

from temporalio.client import Client

from contracts.operations import Operation
from infrastructure.fair_queue import Requester
from resolvers.active import ActiveOperations
from resolvers.index import MemoryIndex
from resolvers.progress import ProgressHub
from resolvers.states import States
from tests.gateway.fakes import ADA
from tests.gateway.serving import until
from tests.resolvers.scripted import scripts


class NoScans:
    async def running(self, user_id: str) -> list[Operation]:
        return []


async def test_what_somebody_looks_at_comes_before_what_was_only_started(temporal_client: Client) -> None:
    async with (
        scripts(temporal_client) as starter,
        ProgressHub(temporal_client, linger_seconds=0) as hub,
        asyncio.timeout(30),
    ):
        states = States(temporal_client, hub)
        started, seen, beyond = [await starter.start(user_id=ADA) for _ in range(3)]
        first, second, third = await states.of([started.id, seen.id, beyond.id], Requester(ADA, ADA))
        assert first is not None
        assert second is not None
        assert third is not None
        async with ActiveOperations(states, NoScans(), MemoryIndex(), hub, room=1) as active:
            active.follow(first)
            await until(lambda: hub.streamed(first.id) is not None)
            active.follow(second)  # only started, too: there is no room
            active.follow(second, at_once=True)
            await until(lambda: hub.streamed(second.id) is not None and hub.watching == 1)
            active.follow(third, at_once=True)
            await asyncio.sleep(0.2)
            assert (hub.watching, hub.streamed(second.id) is None) == (1, False)
        for script in (started, seen, beyond):
            await script.end()
