"""``make chaos``: the long version, within twenty minutes, with its figures written into docs/reliability.md."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from tests.chaos.actor import Actor
from tests.chaos.campaign import CALLS, blows, carry_out, kills
from tests.chaos.gather import gathered, quiet
from tests.chaos.ground import PARTS, Ground, chaos_ground
from tests.chaos.invariants import violations
from tests.chaos.outages import RECOVERY_SECONDS, WEATHERS, held, measured, rounds
from tests.chaos.pauses import STOPPABLE, paused
from tests.chaos.reliability import put, written

Done = TypeVar("Done")

SHARES = {"deaths": 0.4, "table": 0.25, "pauses": 0.18, "rounds": 0.17}
"""Of the time, for each part of the run."""


class Run:
    """``lines``: what is written; ``faults``: what must not be."""

    def __init__(self, seed: int, minutes: float) -> None:
        self.seed = seed
        self._seconds = minutes * 60
        self.lines: list[str] = []
        self.faults: list[str] = []

    def until(self, part: str) -> float:
        return time.monotonic() + self._seconds * SHARES[part]

    def say(self, line: str) -> None:
        self.lines.append(f"- {line}")
        print(line, flush=True)  # noqa: T201 - for whoever waits

    def found(self, faults: list[str]) -> None:
        for fault in faults:
            self.faults.append(fault)
            print(f"FAULT: {fault}", flush=True)  # noqa: T201 - likewise

    def deaths(self) -> None:
        with _ground(accounts=40) as ground:
            jobs = kills(list(CALLS), 200, self.seed)
            jobs += [*blows("cancel", 300, self.seed), *blows("terminate", 50, self.seed + 1)]
            random.Random(self.seed).shuffle(jobs)
            until = self.until("deaths")
            done = asyncio.run(carry_out(ground, jobs, self.seed, sagas_die_every=20, until=until))
        assert done.world is not None
        self.found([f"{each.invariant}: {each.words}" for each in violations(done.world)])
        points = ", ".join(f"{count} {kind}" for kind, count in sorted(done.reached.items()))
        self.say(f"Workers killed at named points: {done.reached.total()} ({points}); at random: {done.saga_kills}.")
        for blow in ("cancel", "terminate"):
            ends = ", ".join(f"{count} {end}" for (what, end), count in sorted(done.ends.items()) if what == blow)
            self.say(f"Operations struck by a {blow}: {ends or 'none'}.")
        if done.repairs:
            self.say(f"Repaired after {max(done.repairs):.1f} s at most, looking every 2 s.")
        self.say(f"Operations judged: {len(done.world.operations)}, violations: {len(violations(done.world))}.")

    def table(self) -> None:
        with _ground(accounts=2, hands=0, outside=True) as ground:
            found = asyncio.run(_with_actors(ground, lambda both: measured(ground, both[0], both[1], PARTS, WEATHERS)))
        self.found(list(found.faults()))
        slowest = max((cell.seconds, name) for cells in found.cells.values() for name, cell in cells.items())
        self.say(
            f"Answers with a part down, paused, slow or reset: {sum(map(len, found.cells.values()))}, "
            f"the slowest after {slowest[0]:.1f} s ({slowest[1]})."
        )
        self.say(f"All well again {max(found.recoveries.values()):.1f} s after the part's return, at most.")
        put("table", written(found))

    def pauses(self) -> None:
        async def pause_all(ground: Ground, actor: Actor, seconds: float) -> None:
            await actor.sign_in()
            for part in STOPPABLE:
                wrong, recovered = await paused(ground, part, actor, seconds)
                self.found([f"{said} while {part} was stopped" for said in wrong])
                if recovered > RECOVERY_SECONDS:
                    self.found([f"all is well {recovered:.1f} s after {part} was stopped"])
                self.say(f"`{part}` stopped by SIGSTOP for {seconds:.0f} s: well again after {recovered:.1f} s.")

        seconds = min(60.0, self._seconds * SHARES["pauses"] / 3.5)
        with _ground(accounts=1, hands=0) as ground:
            asyncio.run(_with_actors(ground, lambda actors: pause_all(ground, actors[0], seconds)))

    def rounds(self) -> None:
        with _ground(accounts=6, hands=0, outside=True) as ground:
            asyncio.run(_with_actors(ground, lambda actors: self._rounds(ground, actors)))

    async def _rounds(self, ground: Ground, actors: list[Actor]) -> None:
        watcher, *workers = actors
        await asyncio.gather(*(actor.sign_in() for actor in actors))
        await asyncio.gather(*(actor.switch(uuid4().hex) for actor in workers))
        await asyncio.sleep(10)
        before = {name: await held(ground, name) for name in ("gateway", "worker")}
        stop = asyncio.Event()

        async def work(actor: Actor) -> None:
            while not stop.is_set():
                await actor.switch(uuid4().hex)
                await actor.onboard(uuid4().hex)
                await actor.look()

        async with asyncio.TaskGroup() as group:
            for actor in workers:
                group.create_task(work(actor))
            done = await rounds(ground, watcher, PARTS, 100, self.seed, until=self.until("rounds"))
            stop.set()
        histories = [actor.history for actor in actors]
        acknowledged = [told.operation_id for history in histories for told in history.acknowledged]
        await quiet(ground, acknowledged)
        world = await gathered(ground, histories, objects={})
        self.found([f"{each.invariant}: {each.words}" for each in violations(world) if "letter" not in each.words])
        self.found([f"all is well {s:.1f} s after {p} was {w}" for p, w, s in done if s > RECOVERY_SECONDS])
        await asyncio.sleep(35)
        slowest = max((seconds, f"{part} {weather}") for part, weather, seconds in done)
        self.say(f"Rounds at random under load: {len(done)}, slowest recovery {slowest[0]:.1f} s ({slowest[1]}).")
        self.say(f"Operations acknowledged meanwhile: {len(acknowledged)}, lost: 0 unless a fault is named.")
        for name, first in before.items():
            last = await held(ground, name)
            self.say(
                f"`{name}` held {first.tasks} tasks, {first.files} files and {first.threads} threads before, "
                f"and {last.tasks}, {last.files} and {last.threads} after."
            )
            if last.tasks > first.tasks + 10 or last.files > first.files + 25 or last.threads > first.threads + 10:
                self.found([f"{name} holds {last} after {len(done)} rounds, and {first} before"])


@contextmanager
def _ground(*, accounts: int, hands: int = 3, outside: bool = False) -> Iterator[Ground]:
    with tempfile.TemporaryDirectory(prefix="adx-chaos-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL may run as nobody and must find its way through
        with chaos_ground(folder, accounts=accounts, hands=hands, outside=outside) as ground:
            yield ground


@asynccontextmanager
async def _actors(ground: Ground) -> AsyncIterator[list[Actor]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(aclosing(Actor(ground, account, index)))
            for index, account in enumerate(ground.accounts)
        ]


async def _with_actors(ground: Ground, do: Callable[[list[Actor]], Awaitable[Done]]) -> Done:
    async with _actors(ground) as actors:
        return await do(actors)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos ARGS=")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--minutes", type=float, default=17.0, help="without starting and stopping servers")
    parser.add_argument("--only", choices=SHARES, action="append")
    told = parser.parse_args()
    run = Run(told.seed, told.minutes)
    print(f"seed {run.seed}", flush=True)  # noqa: T201 - to run it again
    began = time.monotonic()
    for part in told.only or SHARES:
        getattr(run, part)()
    minutes = (time.monotonic() - began) / 60
    if not told.only:
        head = f"The last long run, {datetime.now(UTC):%Y-%m-%d}, seed {run.seed}, {minutes:.0f} minutes:"
        faults = [f"- **Fault:** {fault}" for fault in run.faults]
        put("figures", "\n".join([head, "", *run.lines, *faults]))
    print(f"{len(run.faults)} faults, seed {run.seed}, {minutes:.1f} minutes")  # noqa: T201 - the last word
    return 1 if run.faults else 0


if __name__ == "__main__":
    sys.exit(main())
