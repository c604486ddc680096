"""Somebody who is signed in, and operations of theirs that move when a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from tests.clients.cluster import Cluster
from tests.end_to_end.client import Client
from tests.resolvers.scripted import Script, scripts

AT_ONCE = 25

Done = TypeVar("Done")


@dataclass(frozen=True)
class Scene:
    token: str
    scripts: list[Script]

    @property
    def operations(self) -> list[str]:
        return [script.id for script in self.scripts]

    async def move_all(self) -> None:
        await at_once(script.move for script in self.scripts)

    async def end_all(self) -> None:
        await at_once(script.end for script in self.scripts)


@asynccontextmanager
async def scripted_operations(cluster: Cluster, count: int) -> AsyncIterator[Scene]:
    """Operations of Ada's, whose worker is this process."""
    ada = Client(cluster.stack)
    await ada.log_in("ada@example.com")
    assert ada.token is not None
    user = (await ada.ask("{ viewer { user { id } } }"))["viewer"]["user"]["id"]
    async with scripts(await cluster.temporal()) as starter:
        begun = await at_once(partial(starter.start, user_id=user) for _ in range(count))
        yield Scene(ada.token, begun)


async def at_once(works: Iterable[Callable[[], Awaitable[Done]]]) -> list[Done]:
    """All of them, a few at a time, for the Temporal server is a small one."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def in_turn(work: Callable[[], Awaitable[Done]]) -> Done:
        async with turns:
            return await work()

    return await asyncio.gather(*(in_turn(work) for work in works))
