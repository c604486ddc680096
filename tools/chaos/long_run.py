"""The experiments of ``make chaos``. Each has its own environment and a time limit, and reports results and faults."""

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
from tools.chaos.client import ChaosClient, RequestRejected
from tools.chaos.collect import collect_observations, wait_until_idle
from tools.chaos.environment import COMPONENTS, ChaosEnvironment, start_chaos_environment
from tools.chaos.following import SETTINGS, follow_while_killing
from tools.chaos.invariants import find_violations
from tools.chaos.observations import ClientHistory
from tools.chaos.outages import (
    CLIENT_NETWORK,
    CONDITIONS,
    RECOVERY_TIMEOUT_SECONDS,
    measure_outages,
    measure_resources,
    run_random_faults,
)
from tools.chaos.pauses import PAUSABLE_COMPONENTS, pause_component
from tools.chaos.regressions import save_regressions
from tools.chaos.reliability import compare_with_table, read_table, render_table
from tools.chaos.scenarios import CALLS, Job, RunResult, interruption_jobs, kill_jobs, run_jobs

Done = TypeVar("Done")

KILLS_PER_KIND, CANCELS, TERMINATIONS, MAX_RANDOM_FAULTS = 200, 300, 50, 100
"""The numbers of crashes per kind of operation, of cancellations, of terminations and of random network faults."""
CONCURRENT_CLIENTS = 64
FOLLOWED_OPERATIONS = 200
_SECONDS_PER_KILL = 6.0
PAUSE_SECONDS = 60.0
REPAIR_DEADLINE_SECONDS = 60
"""The default of the worker's setting."""
SETTLE_TIMEOUT_SECONDS = 170.0
"""The time between the start of the last operation and the end of all checks."""


class Report(Protocol):
    """Receives the results of an experiment."""

    def add_line(self, line: str) -> None: ...

    def add_faults(self, faults: list[str]) -> None: ...

    def set_table(self, text: str) -> None:
        """Set the measured table of errors."""


Experiment = Callable[[Report, int, float], None]
"""Called with the report, the seed, and the seconds after which no further operation is started."""


def kill_processes(report: Report, seed: int, seconds: float) -> None:
    """Kill worker processes at crash points, and cancel and terminate operations."""
    with _start_environment(
        accounts=CONCURRENT_CLIENTS, activity_processes=2, REPAIR_DEADLINE_SECONDS=str(REPAIR_DEADLINE_SECONDS)
    ) as environment:
        until = time.monotonic() + seconds
        done = asyncio.run(
            _with_timeout(
                seconds + SETTLE_TIMEOUT_SECONDS,
                run_jobs(environment, all_jobs(seed), seed, workflow_kill_interval_seconds=20, until=until),
            )
        )
    assert done.observations is not None
    found = find_violations(done.observations)
    report.add_faults([f"{each.invariant}: {each.message}" for each in found])
    report.add_faults(done.client_errors)
    save_regressions([job for name, job in done.jobs.items() if any(name in each.message for each in found)])
    _report_kills(report, done)
    if late := [taken for taken in done.repair_seconds if taken > REPAIR_DEADLINE_SECONDS]:
        report.add_faults([f"repaired after {taken:.1f} s" for taken in late])
    report.add_line(f"Operations checked: {len(done.observations.operations)}, violations: {len(found)}.")


def all_jobs(seed: int) -> list[Job]:
    """Return the jobs in random order. Terminations are in the half that starts first, to leave time for repairs."""
    jobs = kill_jobs(list(CALLS), KILLS_PER_KIND, seed) + interruption_jobs("cancel", CANCELS, seed)
    rng = random.Random(seed)
    rng.shuffle(jobs)
    late, early = (
        jobs[: len(jobs) // 2],
        jobs[len(jobs) // 2 :] + interruption_jobs("terminate", TERMINATIONS, seed + 1),
    )
    rng.shuffle(early)
    return late + early


def _report_kills(report: Report, done: RunResult) -> None:
    points = ", ".join(f"{count} {kind}" for kind, count in sorted(done.crash_points_reached.items()))
    report.add_line(
        f"Crash points at which a worker was killed: {done.crash_points_reached.total()} of "
        f"{KILLS_PER_KIND * len(CALLS)} ({points}), by {done.deaths} process deaths. "
        f"Workflow workers killed at random: {done.workflow_process_kills}."
    )
    cancelled = {
        end: count for (interruption, end), count in sorted(done.final_states.items()) if interruption == "cancel"
    }
    ends = ", ".join(f"{count} {end}" for end, count in cancelled.items())
    report.add_line(f"Operations cancelled at random moments: {sum(cancelled.values())} of {CANCELS} ({ends}).")
    report.add_line(f"Operations terminated while they ran: {done.terminated} of {TERMINATIONS}.")
    if done.repair_seconds:
        times = sorted(done.repair_seconds)
        report.add_line(
            f"Repaired operations, including those with a failed undo: {len(times)}, after "
            f"{times[len(times) // 2]:.1f} s at the median and {times[-1]:.1f} s at most, with a deadline of "
            f"{REPAIR_DEADLINE_SECONDS} s, while workers were killed."
        )
    if done.missed:
        report.add_line(f"Jobs without an operation that reached the crash point: {len(done.missed)}.")


def measure_errors(report: Report, seed: int, seconds: float) -> None:
    """Measure the response of each API operation under each fault of each component."""
    del seed  # nothing is random
    with _start_environment(accounts=2, activity_processes=0, external_servers=True) as environment:

        async def measure() -> None:
            async with _open_clients(environment) as (main, switching_client):
                until = time.monotonic() + seconds
                found = await measure_outages(
                    environment, main, switching_client, COMPONENTS, CONDITIONS, documented=read_table(), until=until
                )
                report.add_faults([*found.faults(), *compare_with_table(found, read_table())])
                slowest = max((cell.seconds, name) for cells in found.cells.values() for name, cell in cells.items())
                count = sum(map(len, found.cells.values()))
                report.add_line(
                    f"Responses with a component down, paused, slow or reset: {count}, in {len(found.cells)} "
                    f"of {len(COMPONENTS) * len(CONDITIONS)} cases; slowest {slowest[0]:.1f} s ({slowest[1]})."
                )
                report.add_line(f"Recovery within {max(found.recoveries.values()):.1f} s of the component's return.")
                if len(found.cells) == len(COMPONENTS) * len(CONDITIONS):
                    report.set_table(render_table(found))

        asyncio.run(_with_timeout(seconds + SETTLE_TIMEOUT_SECONDS, measure()))


def pause_components(report: Report, seed: int, seconds: float) -> None:
    """Pause each server for a minute while clients send requests."""
    del seed
    each = min(PAUSE_SECONDS, seconds / len(PAUSABLE_COMPONENTS) - 4)
    with _start_environment(accounts=3, activity_processes=0, external_servers=True) as environment:

        async def pause_all() -> None:
            async with _open_clients(environment) as clients:
                requesting, *working = clients
                await asyncio.gather(*(client.sign_in() for client in clients))
                for part in PAUSABLE_COMPONENTS:
                    faults, recovered = await pause_component(environment, part, requesting, working, each)
                    report.add_faults([f"{said} while {part} was paused" for said in faults])
                    if recovered > RECOVERY_TIMEOUT_SECONDS:
                        report.add_faults([f"recovery took {recovered:.1f} s after {part} was paused"])
                    report.add_line(f"`{part}` paused for {each:.0f} s: recovered after {recovered:.1f} s.")
                await _report_violations(report, environment, [client.history for client in clients])

        asyncio.run(_with_timeout(seconds + SETTLE_TIMEOUT_SECONDS, pause_all()))


def inject_faults_under_load(report: Report, seed: int, seconds: float) -> None:
    """Inject random network faults under load; compare tasks, files and threads of the processes before and after."""
    with _start_environment(accounts=6, activity_processes=0, external_servers=True) as environment:
        asyncio.run(_with_timeout(seconds + SETTLE_TIMEOUT_SECONDS, _inject_faults(report, environment, seed, seconds)))


def follow_through_kills(report: Report, seed: int, seconds: float) -> None:
    """Follow two hundred operations in each delivery mode on two gateways while processes are killed."""
    npm.install(npm.CLIENTS)
    with _folder() as folder, running_cluster(folder) as cluster:
        for mode, settings in SETTINGS.items():
            kills = max(5, int(seconds / len(SETTINGS) / _SECONDS_PER_KILL))
            done = asyncio.run(
                _with_timeout(
                    seconds + SETTLE_TIMEOUT_SECONDS,
                    follow_while_killing(cluster, settings, operations=FOLLOWED_OPERATIONS, kills=kills, seed=seed),
                )
            )
            report.add_faults([f"{fault} (mode {mode})" for fault in done.faults])
            if mode not in done.modes:
                report.add_faults([f"no state arrived by {mode}"])
            killed = ", ".join(f"{name} {count}" for name, count in sorted(done.kills.items()))
            frames = ", ".join(f"{count} {each}" for each, count in done.modes.most_common())
            report.add_line(
                f"Operations followed to their end by {mode}: {FOLLOWED_OPERATIONS - len(done.faults)} of "
                f"{FOLLOWED_OPERATIONS} "
                f"(frames: {frames}), while these were killed: {killed}."
            )


async def _inject_faults(report: Report, environment: ChaosEnvironment, seed: int, seconds: float) -> None:
    async with _open_clients(environment) as (watcher, *workers):
        clients = [watcher, *workers]
        for client in workers:
            client.url = environment.clients_url
        await asyncio.gather(*(client.sign_in() for client in clients))
        await asyncio.gather(*(client.switch(uuid4().hex) for client in workers))
        await asyncio.sleep(10)
        before = {name: await measure_resources(environment, name) for name in ("gateway", "worker")}
        stop = asyncio.Event()

        async def work(client: ChaosClient) -> None:
            while not stop.is_set():
                try:
                    for run_operation in (client.switch, client.onboard, client.upload):
                        await run_operation(uuid4().hex)
                    await client.read_dashboard()
                except (RequestRejected, TimeoutError) as error:
                    report.add_faults([f"{client.account.email} failed: {error!r}"])

        async with asyncio.TaskGroup() as group:
            for client in workers:
                group.create_task(work(client))
            until = time.monotonic() + seconds
            done = await run_random_faults(
                environment, watcher, (*COMPONENTS, CLIENT_NETWORK), MAX_RANDOM_FAULTS, seed, until=until
            )
            stop.set()
        report.add_faults(
            [f"recovery took {s:.1f} s after {p} was {w}" for p, w, s in done if s > RECOVERY_TIMEOUT_SECONDS]
        )
        slowest = max((taken, f"{part} {conditions}") for part, conditions, taken in done)
        report.add_line(
            f"Random network faults under load: {len(done)} of {MAX_RANDOM_FAULTS}, "
            f"slowest recovery {slowest[0]:.1f} s ({slowest[1]})."
        )
        await _report_violations(report, environment, [client.history for client in clients])
    # The worker keeps idle connections for four times that time, also those whose end a proxy did not forward.
    await asyncio.sleep(4 * KEEP_ALIVE_SECONDS + 15)
    for name, first in before.items():
        last = await measure_resources(environment, name)
        tasks, tasks_before = last.tasks.total(), first.tasks.total()
        report.add_line(
            f"`{name}` held {tasks_before} tasks, {first.files} files and connections and {first.threads} threads "
            f"before, and {tasks}, {last.files} and {last.threads} afterwards."
        )
        if tasks > tasks_before + 10 or last.files > first.files + 25 or last.threads > first.threads + 10:
            new = ", ".join(f"{count} {coroutine}" for coroutine, count in (last.tasks - first.tasks).items())
            held_now = f"{tasks} tasks, {last.files} files and {last.threads} threads"
            report.add_faults([f"{name} holds {held_now} after {len(done)} rounds; new tasks: {new}"])


async def _report_violations(report: Report, environment: ChaosEnvironment, histories: list[ClientHistory]) -> None:
    acknowledged = [each.operation_id for history in histories for each in history.acknowledged]
    followed = [followed for history in histories for followed in history.followed]
    await wait_until_idle(environment, acknowledged)
    found = find_violations(await collect_observations(environment, histories))
    report.add_faults([f"{each.invariant}: {each.message}" for each in found])
    report.add_line(
        f"Operations acknowledged: {len(acknowledged)}, followed over "
        f"{sum(operation.connections for operation in followed)} connections; violations: {len(found)}."
    )


async def _with_timeout(seconds: float, work: Awaitable[Done]) -> Done:
    async with asyncio.timeout(seconds):
        return await work


EXPERIMENTS: dict[str, Experiment] = {
    "deaths": kill_processes,
    "answers": measure_errors,
    "pauses": pause_components,
    "rounds": inject_faults_under_load,
    "following": follow_through_kills,
}


@contextmanager
def _start_environment(
    *, accounts: int, activity_processes: int, external_servers: bool = False, **settings: str
) -> Iterator[ChaosEnvironment]:
    with (
        _folder() as folder,
        start_chaos_environment(
            folder,
            accounts=accounts,
            activity_processes=activity_processes,
            external_servers=external_servers,
            **settings,
        ) as environment,
    ):
        yield environment


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="adx-chaos-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL may run as the user nobody and must be able to enter the folder
        yield folder


@asynccontextmanager
async def _open_clients(environment: ChaosEnvironment) -> AsyncIterator[list[ChaosClient]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(aclosing(ChaosClient(environment, account, index)))
            for index, account in enumerate(environment.accounts)
        ]
