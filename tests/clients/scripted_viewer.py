"""A signed-in user with operations whose states a test controls."""

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

MAX_CONCURRENT = 25

Result = TypeVar("Result")


@dataclass(frozen=True)
class ScriptedOperations:
    """Operations of one user, and the user's session token."""

    token: str
    scripts: list[Script]

    @property
    def ids(self) -> list[str]:
        """The ids of the operations."""
        return [script.id for script in self.scripts]

    async def move_all(self) -> None:
        """Move each operation to its next state."""
        await run_concurrently(script.move for script in self.scripts)

    async def end_all(self) -> None:
        """Complete all operations."""
        await run_concurrently(script.end for script in self.scripts)


@asynccontextmanager
async def scripted_operations(cluster: Cluster, count: int) -> AsyncIterator[ScriptedOperations]:
    """Start operations of Ada, whose worker is this process."""
    ada = Client(cluster.stack)
    await ada.log_in("ada@example.com")
    assert ada.token is not None
    user = (await ada.execute("{ viewer { user { id } } }"))["viewer"]["user"]["id"]
    async with scripts(await cluster.temporal()) as starter:
        started = await run_concurrently(partial(starter.start, user_id=user) for _ in range(count))
        yield ScriptedOperations(ada.token, started)


async def run_concurrently(calls: Iterable[Callable[[], Awaitable[Result]]]) -> list[Result]:
    """Run all calls, only a few at a time because the Temporal server of the tests is small."""
    semaphore = asyncio.Semaphore(MAX_CONCURRENT)

    async def limited(call: Callable[[], Awaitable[Result]]) -> Result:
        async with semaphore:
            return await call()

    return await asyncio.gather(*(limited(call) for call in calls))
