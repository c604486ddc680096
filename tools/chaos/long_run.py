"""The parts of the long run, each on a ground of its own and within its seconds: what is said of it, and its faults."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Protocol, TypeVar
from uuid import uuid4

from infrastructure.signing.service_tokens import KEEP_ALIVE_SECONDS
from tests.clients import npm
from tests.clients.cluster import running_cluster
from tools.chaos.client import Actor, Refused
from tools.chaos.collect import gathered, quiet
from tools.chaos.environment import PARTS, Ground, chaos_ground
from tools.chaos.following import SETTINGS, follow_while_killing
from tools.chaos.invariants import violations
from tools.chaos.observations import History
from tools.chaos.outages import CLIENTS, RECOVERY_SECONDS, WEATHERS, held, measured, rounds
from tools.chaos.pauses import STOPPABLE, paused
from tools.chaos.regressions import keep
from tools.chaos.reliability import table, unlike, written
from tools.chaos.scenarios import CALLS, Job, Outcome, blows, carry_out, kills

Done = TypeVar("Done")

KILLS, CANCELS, TERMINATIONS, ROUNDS = 200, 300, 50, 100
"""Kills of each saga."""
CLIENTS_AT_ONCE = 64
FOLLOWED = 200
_SECONDS_PER_KILL = 6.0
PAUSE_SECONDS = 60.0
REPAIR_DEADLINE_SECONDS = 60
"""What a worker is told where nobody says otherwise."""
GRACE_SECONDS = 170.0
"""After the last is begun, until all of it must have ended and been looked at."""


class Report(Protocol):
    """Who is told."""

    def say(self, line: str) -> None: ...

    def found(self, faults: list[str]) -> None: ...

    def tabulate(self, text: str) -> None:
        """The table of answers, as it was measured."""


Part = Callable[[Report, int, float], None]
"""Given the seed and the seconds after which nothing more is begun."""


def deaths(report: Report, seed: int, seconds: float) -> None:
    with _ground(accounts=CLIENTS_AT_ONCE, hands=2, REPAIR_DEADLINE_SECONDS=str(REPAIR_DEADLINE_SECONDS)) as ground:
        until = time.monotonic() + seconds
        done = asyncio.run(
            _within(seconds + GRACE_SECONDS, carry_out(ground, mixed(seed), seed, sagas_die_every=20, until=until))
        )
    assert done.world is not None
    found = violations(done.world)
    report.found([f"{each.invariant}: {each.words}" for each in found])
    report.found(done.broken)
    keep([job for name, job in done.jobs.items() if any(name in each.words for each in found)])
    _tell_of_deaths(report, done)
    if late := [taken for taken in done.repairs if taken > REPAIR_DEADLINE_SECONDS]:
        report.found([f"repaired after {taken:.1f} s" for taken in late])
    report.say(f"Operations judged: {len(done.world.operations)}, violations: {len(found)}.")


def mixed(seed: int) -> list[Job]:
    """Terminations among the first that are begun (from the end), so that the last repair is soon awaited."""
    jobs = kills(list(CALLS), KILLS, seed) + blows("cancel", CANCELS, seed)
    chance = random.Random(seed)
    chance.shuffle(jobs)
    late, early = jobs[: len(jobs) // 2], jobs[len(jobs) // 2 :] + blows("terminate", TERMINATIONS, seed + 1)
    chance.shuffle(early)
    return late + early


def _tell_of_deaths(report: Report, done: Outcome) -> None:
    points = ", ".join(f"{count} {kind}" for kind, count in sorted(done.reached.items()))
    report.say(
        f"Points at which a worker was killed while an operation stood there: {done.reached.total()} of "
        f"{KILLS * len(CALLS)} ({points}), by {done.deaths} deaths. "
        f"Workers of workflows killed at random: {done.saga_kills}."
    )
    cancelled = {end: count for (blow, end), count in sorted(done.ends.items()) if blow == "cancel"}
    ends = ", ".join(f"{count} {end}" for end, count in cancelled.items())
    report.say(f"Operations cancelled at random moments: {sum(cancelled.values())} of {CANCELS} ({ends}).")
    report.say(f"Operations terminated while they ran: {done.terminated} of {TERMINATIONS}.")
    if done.repairs:
        times = sorted(done.repairs)
        report.say(
            f"Repaired, those with an undo that failed among them: {len(times)}, after {times[len(times) // 2]:.1f} s "
            f"at the median and {times[-1]:.1f} s at most, of {REPAIR_DEADLINE_SECONDS} s promised, while workers were "
            "killed."
        )
    if done.missed:
        report.say(f"Given up, for no operation came to the point: {len(done.missed)}.")


def answers(report: Report, seed: int, seconds: float) -> None:
    del seed  # each part in each weather, once
    with _ground(accounts=2, hands=0, outside=True) as ground:

        async def measure() -> None:
            async with _actors(ground) as (main, walker):
                until = time.monotonic() + seconds
                found = await measured(ground, main, walker, PARTS, WEATHERS, documented=table(), until=until)
                report.found([*found.faults(), *unlike(found, table())])
                slowest = max((cell.seconds, name) for cells in found.cells.values() for name, cell in cells.items())
                count = sum(map(len, found.cells.values()))
                report.say(
                    f"Answers with a part down, paused, slow or reset: {count}, in {len(found.cells)} "
                    f"of {len(PARTS) * len(WEATHERS)} cases, the slowest after {slowest[0]:.1f} s ({slowest[1]})."
                )
                report.say(f"All well again {max(found.recoveries.values()):.1f} s after the part's return, at most.")
                if len(found.cells) == len(PARTS) * len(WEATHERS):
                    report.tabulate(written(found))

        asyncio.run(_within(seconds + GRACE_SECONDS, measure()))


def pauses(report: Report, seed: int, seconds: float) -> None:
    del seed
    each = min(PAUSE_SECONDS, seconds / len(STOPPABLE) - 4)
    with _ground(accounts=3, hands=0, outside=True) as ground:

        async def pause_all() -> None:
            async with _actors(ground) as actors:
                asking, *working = actors
                await asyncio.gather(*(actor.sign_in() for actor in actors))
                for part in STOPPABLE:
                    wrong, recovered = await paused(ground, part, asking, working, each)
                    report.found([f"{said} while {part} was stopped" for said in wrong])
                    if recovered > RECOVERY_SECONDS:
                        report.found([f"all is well {recovered:.1f} s after {part} was stopped"])
                    report.say(f"`{part}` stopped for {each:.0f} s: well again after {recovered:.1f} s.")
                await _judge(report, ground, [actor.history for actor in actors])

        asyncio.run(_within(seconds + GRACE_SECONDS, pause_all()))


def rounds_under_load(report: Report, seed: int, seconds: float) -> None:
    with _ground(accounts=6, hands=0, outside=True) as ground:
        asyncio.run(_within(seconds + GRACE_SECONDS, _rounds(report, ground, seed, seconds)))


def following(report: Report, seed: int, seconds: float) -> None:
    """Two hundred operations in each mode of delivery, on a cluster of two gateways."""
    npm.install(npm.CLIENTS)
    with _folder() as folder, running_cluster(folder) as cluster:
        for mode, settings in SETTINGS.items():
            kills = max(5, int(seconds / len(SETTINGS) / _SECONDS_PER_KILL))
            done = asyncio.run(
                _within(
                    seconds + GRACE_SECONDS,
                    follow_while_killing(cluster, settings, operations=FOLLOWED, kills=kills, seed=seed),
                )
            )
            report.found([f"{fault} (mode {mode})" for fault in done.faults])
            if mode not in done.modes:
                report.found([f"no state arrived by {mode}"])
            killed = ", ".join(f"{name} {count}" for name, count in sorted(done.kills.items()))
            frames = ", ".join(f"{count} {each}" for each, count in done.modes.most_common())
            report.say(
                f"Operations followed by {mode} to their ends: {FOLLOWED - len(done.faults)} of {FOLLOWED} "
                f"(frames: {frames}), while these were killed: {killed}."
            )


async def _rounds(report: Report, ground: Ground, seed: int, seconds: float) -> None:
    async with _actors(ground) as (watcher, *workers):
        actors = [watcher, *workers]
        for actor in workers:
            actor.url = ground.clients_url
        await asyncio.gather(*(actor.sign_in() for actor in actors))
        await asyncio.gather(*(actor.switch(uuid4().hex) for actor in workers))
        await asyncio.sleep(10)
        before = {name: await held(ground, name) for name in ("gateway", "worker")}
        stop = asyncio.Event()

        async def work(actor: Actor) -> None:
            while not stop.is_set():
                try:
                    for play in (actor.switch, actor.onboard, actor.upload):
                        await play(uuid4().hex)
                    await actor.look()
                except (Refused, TimeoutError) as error:
                    report.found([f"{actor.account.email} gave up: {error!r}"])

        async with asyncio.TaskGroup() as group:
            for actor in workers:
                group.create_task(work(actor))
            until = time.monotonic() + seconds
            done = await rounds(ground, watcher, (*PARTS, CLIENTS), ROUNDS, seed, until=until)
            stop.set()
        report.found([f"all is well {s:.1f} s after {p} was {w}" for p, w, s in done if s > RECOVERY_SECONDS])
        slowest = max((taken, f"{part} {weather}") for part, weather, taken in done)
        report.say(
            f"Rounds at random under load: {len(done)} of {ROUNDS}, slowest recovery {slowest[0]:.1f} s ({slowest[1]})."
        )
        await _judge(report, ground, [actor.history for actor in actors])
    # The worker keeps idle connections for four times that long, also those of which a proxy hid the end.
    await asyncio.sleep(4 * KEEP_ALIVE_SECONDS + 15)
    for name, first in before.items():
        last = await held(ground, name)
        tasks, tasks_before = last.tasks.total(), first.tasks.total()
        report.say(
            f"`{name}` held {tasks_before} tasks, {first.files} files and connections and {first.threads} threads "
            f"before, and {tasks}, {last.files} and {last.threads} after."
        )
        if tasks > tasks_before + 10 or last.files > first.files + 25 or last.threads > first.threads + 10:
            new = ", ".join(f"{count} {coroutine}" for coroutine, count in (last.tasks - first.tasks).items())
            held_now = f"{tasks} tasks, {last.files} files and {last.threads} threads"
            report.found([f"{name} holds {held_now} after {len(done)} rounds; new tasks: {new}"])


async def _judge(report: Report, ground: Ground, histories: list[History]) -> None:
    acknowledged = [told.operation_id for history in histories for told in history.acknowledged]
    followed = [following for history in histories for following in history.followed]
    await quiet(ground, acknowledged)
    found = violations(await gathered(ground, histories))
    report.found([f"{each.invariant}: {each.words}" for each in found])
    report.say(
        f"Operations acknowledged meanwhile: {len(acknowledged)}, followed over "
        f"{sum(following.connections for following in followed)} connections; violations: {len(found)}."
    )


async def _within(seconds: float, work: Awaitable[Done]) -> Done:
    async with asyncio.timeout(seconds):
        return await work


PARTS_OF_THE_RUN: dict[str, Part] = {
    "deaths": deaths,
    "answers": answers,
    "pauses": pauses,
    "rounds": rounds_under_load,
    "following": following,
}


@contextmanager
def _ground(*, accounts: int, hands: int, outside: bool = False, **settings: str) -> Iterator[Ground]:
    with (
        _folder() as folder,
        chaos_ground(folder, accounts=accounts, hands=hands, outside=outside, **settings) as ground,
    ):
        yield ground


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="adx-chaos-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL may run as nobody and must find its way through
        yield folder


@asynccontextmanager
async def _actors(ground: Ground) -> AsyncIterator[list[Actor]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(aclosing(Actor(ground, account, index)))
            for index, account in enumerate(ground.accounts)
        ]
