"""Many graphql-ws clients of npm at once, each of which follows an operation, and the states that they received."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from contracts.operations import Position
from tests.clients.npm import CLIENTS, node_output


@dataclass
class Follower:
    """One client: its states in order, as cursor and status, and how its subscription ended."""

    operation_id: str
    opened: int = 0
    states: list[tuple[str, str]] = field(default_factory=list)
    modes: list[str] = field(default_factory=list)
    """The mode of delivery of each state."""
    closed: list[int] = field(default_factory=list)
    is_complete: bool = False
    failure: str | None = None

    @property
    def has_ended(self) -> bool:
        """Whether the subscription has completed or failed."""
        return self.is_complete or self.failure is not None

    def check_states(self, position: Callable[[str, str], Position]) -> None:
        """Check that each state is newer than the one before and that the last one is the end."""
        assert self.failure is None, self.failure
        assert self.is_complete
        positions = [position(self.operation_id, cursor).as_tuple() for cursor, _ in self.states]
        assert all(earlier < later for earlier, later in pairwise(positions)), positions
        assert [status for _, status in self.states].count("COMPLETED") == 1, self.states
        assert self.states[-1][1] == "COMPLETED", self.states


class ClientGroup:
    """The clients of one Node.js process."""

    def __init__(self, operations: Sequence[str]) -> None:
        self.followers = [Follower(operation) for operation in operations]
        self._has_changed = asyncio.Event()

    async def wait_until(self, condition: Callable[[Follower], bool], seconds: float) -> None:
        """Wait until the condition holds for all clients; after this many seconds raise AssertionError."""
        try:
            async with asyncio.timeout(seconds):
                while not all(condition(follower) for follower in self.followers):
                    await self._has_changed.wait()
                    self._has_changed.clear()
        except TimeoutError:
            unfinished = [follower for follower in self.followers if not condition(follower)]
            raise AssertionError(
                f"{len(unfinished)} of {len(self.followers)} do not satisfy the condition, such as {unfinished[0]}"
            ) from None

    async def wait_for_first_states(self, seconds: float = 60) -> None:
        """Wait until each client has received a state."""
        await self.wait_until(lambda follower: bool(follower.states) or follower.has_ended, seconds)

    async def wait_for_ends(self, seconds: float) -> None:
        """Wait until the subscription of each client has ended."""
        await self.wait_until(lambda follower: follower.has_ended, seconds)

    def record_event(self, client: int, event: str, *values: str | int | None) -> None:
        """Record an event that a client reported."""
        follower = self.followers[client]
        match event, values:
            case "open", _:
                follower.opened += 1
            case "state", (str(cursor), str(status), mode):
                follower.states.append((cursor, status))
                follower.modes.append(str(mode))
            case "closed", (int(code),):
                follower.closed.append(code)
            case "complete", _:
                follower.is_complete = True
            case "failed", (reason,):
                follower.failure = str(reason)
        self._has_changed.set()


@asynccontextmanager
async def run_clients(
    operations: Sequence[str],
    *,
    websocket: str,
    token: str,
    log: Path,
    seconds: float = 300,
    retry_milliseconds: int | None = None,
) -> AsyncIterator[ClientGroup]:
    """Run one client for each of ``operations``, which may contain an operation several times.

    Clients reconnect after a close as the library does by default or, with ``retry_milliseconds``, after a random part
    of that time.
    """
    config = {
        "websocket": websocket,
        "token": token,
        "operations": operations,
        "seconds": seconds,
        "retryMilliseconds": retry_milliseconds,
    }
    clients = ClientGroup(operations)
    async with node_output(CLIENTS / "crowd.mjs", json.dumps(config), log=log) as lines:

        async def record_events() -> None:
            async for line in lines:
                clients.record_event(*line)

        recording = asyncio.create_task(record_events())
        try:
            yield clients
        finally:
            recording.cancel()
            await asyncio.gather(recording, return_exceptions=True)
