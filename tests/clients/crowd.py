"""Many npm graphql-ws clients at once, and what each of them was told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from contracts.operations import Position
from tests.clients.npm import CLIENTS, said_by


@dataclass
class Follower:
    """One client: the states that it was told, in order, as cursor and status; and how it ended."""

    operation_id: str
    opened: int = 0
    states: list[tuple[str, str]] = field(default_factory=list)
    modes: list[str] = field(default_factory=list)
    """By what mode of delivery each state arrived."""
    closed: list[int] = field(default_factory=list)
    complete: bool = False
    dead: str | None = None

    @property
    def is_over(self) -> bool:
        return self.complete or self.dead is not None

    def saw_it_through(self, position: Callable[[str, str], Position]) -> None:
        """AssertionError unless each state was newer than the one before and the last was the end."""
        assert self.dead is None, self.dead
        assert self.complete
        seen = [position(self.operation_id, cursor).as_tuple() for cursor, _ in self.states]
        assert all(earlier < later for earlier, later in pairwise(seen)), seen
        assert [status for _, status in self.states].count("COMPLETED") == 1, self.states
        assert self.states[-1][1] == "COMPLETED", self.states


class Crowd:
    def __init__(self, operations: Sequence[str]) -> None:
        self.followers = [Follower(operation) for operation in operations]
        self._heard = asyncio.Event()

    async def until(self, condition: Callable[[Follower], bool], seconds: float) -> None:
        """Until it holds for all; AssertionError naming how many it does not hold for after the seconds."""
        try:
            async with asyncio.timeout(seconds):
                while not all(condition(follower) for follower in self.followers):
                    await self._heard.wait()
                    self._heard.clear()
        except TimeoutError:
            others = [follower for follower in self.followers if not condition(follower)]
            raise AssertionError(f"{len(others)} of {len(self.followers)} are not there, as {others[0]}") from None

    async def all_open(self, seconds: float = 60) -> None:
        """Each has been told a state."""
        await self.until(lambda follower: bool(follower.states) or follower.is_over, seconds)

    async def all_over(self, seconds: float) -> None:
        await self.until(lambda follower: follower.is_over, seconds)

    def hear(self, client: int, what: str, *more: str | int | None) -> None:
        follower = self.followers[client]
        match what, more:
            case "open", _:
                follower.opened += 1
            case "state", (str(cursor), str(status), mode):
                follower.states.append((cursor, status))
                follower.modes.append(str(mode))
            case "closed", (int(code),):
                follower.closed.append(code)
            case "complete", _:
                follower.complete = True
            case "dead", (reason,):
                follower.dead = str(reason)
        self._heard.set()


@asynccontextmanager
async def crowd(
    operations: Sequence[str],
    *,
    websocket: str,
    token: str,
    log: Path,
    seconds: float = 300,
    retry_milliseconds: int | None = None,
) -> AsyncIterator[Crowd]:
    """A client for each of ``operations`` (one may be named often). They come back after a close as the library does,
    or, where ``retry_milliseconds`` is given, after a random part of that."""
    config = {
        "websocket": websocket,
        "token": token,
        "operations": operations,
        "seconds": seconds,
        "retryMilliseconds": retry_milliseconds,
    }
    clients = Crowd(operations)
    async with said_by(CLIENTS / "crowd.mjs", json.dumps(config), log=log) as lines:

        async def listen() -> None:
            async for line in lines:
                clients.hear(*line)

        listening = asyncio.create_task(listen())
        try:
            yield clients
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
