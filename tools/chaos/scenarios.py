"""Run operations that are interrupted: by a worker crash at a crash point, by cancellation or by termination."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Literal

from temporalio.client import Client as Temporal
from temporalio.service import RPCError

from contracts.operations import OperationKind
from tools.chaos.client import ChaosClient, RequestRejected
from tools.chaos.collect import (
    collect_observations,
    find_unrepaired,
    repair_duration_seconds,
    wait_until_idle,
    wait_until_repaired,
)
from tools.chaos.crash_points import CrashPlan, Moment
from tools.chaos.environment import ChaosEnvironment
from tools.chaos.invariants import find_violations
from tools.chaos.observations import Observations
from workflows.compensations import COMPENSATIONS

CALLS: dict[OperationKind, tuple[str, ...]] = {
    OperationKind.LOGIN: ("verify_credentials", "get_home_tenant", "check_access", "create_session", "record_sign_in"),
    OperationKind.TENANT_SWITCH: (
        *("check_access", "get_session", "update_user_tenant", "create_session", "load_tenant_data"),
        "replace_session",
    ),
    OperationKind.FILE_UPLOAD: (
        *("validate_file_upload", "create_file_record", "upload_to_storage", "update_file_metadata"),
        "set_file_permissions",
    ),
    OperationKind.FILE_PROCESSING: ("verify_checksum", "extract_metadata", "publish_metadata"),
    OperationKind.USER_ONBOARDING: (
        *("check_permissions", "create_user", "set_up_authentication", "assign_user_to_tenant"),
        *("create_user_workspace", "load_tenant_data", "send_welcome_email"),
    ),
}
"""The activities of each kind of operation, in order; ``ChaosClient.run_operation`` starts the operations."""
UNDOS = {done: undo.__name__ for done, undo in COMPENSATIONS.items()}
BEST_EFFORT = frozenset(("load_tenant_data", "send_welcome_email"))
INNER_MOMENTS: dict[str, tuple[Moment, ...]] = {
    "upload_to_storage": ("copied",),
    "undo_create_file_record": ("removing", "removed"),
    "undo_upload_to_storage": ("removing", "removed"),
    "replace_session": ("notifying",),
    "undo_create_session": ("notifying",),
    "undo_record_sign_in": ("notifying",),
    "undo_replace_session": ("notifying",),
}
"""Crash points within activities that do more than one transaction."""

Interruption = Literal["kill", "cancel", "terminate"]
MAX_ATTEMPTS = 4
"""The number of attempts of a job until an operation is interrupted as planned."""
READ_PROBABILITY = 0.3
"""The probability that a client reads the dashboard after an operation."""


def crash_points(kind: OperationKind) -> list[CrashPlan]:
    """Return every crash point of a kind: of its steps and, with each step failing after its effect, of its undos."""
    both: tuple[Moment, ...] = ("before", "after")
    calls = CALLS[kind]
    points = [CrashPlan(call, moment) for call in calls for moment in (*both, *INNER_MOMENTS.get(call, ()))]
    for place, failing in enumerate(calls):
        if kind is OperationKind.USER_ONBOARDING and failing in BEST_EFFORT:
            continue
        undos = [UNDOS[call] for call in calls[: place + 1] if call in UNDOS]
        points += [
            CrashPlan(undo, moment, failing) for undo in undos for moment in (*both, *INNER_MOMENTS.get(undo, ()))
        ]
    return points


@dataclass(frozen=True)
class Job:
    """One operation to run and interrupt.

    ``moment`` is the delay in seconds of a cancellation or termination after the start; each retry is earlier.
    """

    kind: OperationKind
    interruption: Interruption
    plan: CrashPlan | None = None
    moment: float = 0.0
    attempts_left: int = MAX_ATTEMPTS - 1


@dataclass
class RunResult:
    """The result of all jobs.

    ``crash_points_reached`` counts operations whose worker was killed at their crash point. ``missed`` lists jobs whose
    operation never reached its crash point or ended before the interruption. ``final_states`` counts operations by
    interruption and final status. ``repair_seconds`` are the times from the end of an operation to its repair.
    """

    seed: int
    observations: Observations | None = None
    crash_points_reached: Counter[OperationKind] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)
    final_states: Counter[tuple[Interruption, str]] = field(default_factory=Counter)
    repair_seconds: list[float] = field(default_factory=list)
    jobs: dict[str, Job] = field(default_factory=dict)
    workflow_process_kills: int = 0
    deaths: int = 0
    """Killed activity processes: fewer than crash points, because one kill may interrupt several operations."""

    terminated: int = 0
    client_errors: list[str] = field(default_factory=list)
    """Errors on which a client gave up."""

    def check(self) -> None:
        """Raise AssertionError, with the seed and the jobs of the operations, if an invariant is violated."""
        assert self.observations is not None
        found = find_violations(self.observations)
        messages = [
            f"{each.invariant}: {each.message}  <- {[job for name, job in self.jobs.items() if name in each.message]}"
            for each in found
        ]
        assert not found, f"seed {self.seed}: {len(found)} violations\n" + "\n".join(messages)
        assert not self.client_errors, f"seed {self.seed}: {self.client_errors}"


def kill_jobs(kinds: Sequence[OperationKind], each: int, seed: int) -> list[Job]:
    """Return crash jobs, ``each`` per kind; every crash point is used once before one is repeated."""
    rng = random.Random(seed)
    jobs = []
    for kind in kinds:
        points = crash_points(kind)
        rounds = [rng.sample(points, len(points)) for _ in range(-(-each // len(points)))]
        jobs += [Job(kind, "kill", plan) for plan in [plan for points in rounds for plan in points][:each]]
    rng.shuffle(jobs)
    return jobs


def interruption_jobs(interruption: Interruption, count: int, seed: int, *, within: float = 0.6) -> list[Job]:
    rng = random.Random(seed)
    return [Job(rng.choice(list(CALLS)), interruption, None, rng.uniform(0, within)) for _ in range(count)]


async def run_jobs(
    environment: ChaosEnvironment,
    jobs: Sequence[Job],
    seed: int,
    *,
    workflow_kill_interval_seconds: float | None = None,
    until: float = math.inf,
) -> RunResult:
    """Run the jobs, the last first, with one client per account; then wait until all operations closed, and observe.

    Args:
        environment: the running product.
        jobs: the operations to run and interrupt.
        seed: the seed of all random choices.
        workflow_kill_interval_seconds: the mean time between kills of a workflow process; None: no kills.
        until: the time, by the monotonic clock, after which no further job starts.
    """
    outcome = RunResult(seed)
    waiting = list(jobs)
    rng = random.Random(seed)
    temporal = await environment.temporal()
    async with _open_clients(environment) as clients, AsyncExitStack() as stack:
        if workflow_kill_interval_seconds is not None:
            killing = asyncio.create_task(
                _kill_workflow_processes(environment, rng, workflow_kill_interval_seconds, outcome)
            )
            stack.callback(killing.cancel)

        async def work(client: ChaosClient, number: int) -> None:
            client_rng = random.Random(f"{seed}.{number}")
            await client.sign_in()
            may_be_signed_out = False
            while waiting and time.monotonic() < until:
                job, key = waiting.pop(), f"{client_rng.getrandbits(128):032x}"
                try:
                    was_interrupted = await _run_job(environment, temporal, client, job, key, outcome)
                    may_be_signed_out |= was_interrupted and _may_end_session(job)
                except (RequestRejected, TimeoutError) as error:
                    if may_be_signed_out and isinstance(error, RequestRejected) and error.code == "UNAUTHENTICATED":
                        may_be_signed_out = False
                        waiting.append(job)
                        await client.wait_until_signed_in(by_signing_in=client_rng.random() < 0.5)
                        continue
                    outcome.client_errors.append(f"{job}: {error!r}")
                    continue
                if not was_interrupted:
                    if job.attempts_left:
                        waiting.insert(0, replace(job, attempts_left=job.attempts_left - 1, moment=job.moment / 3))
                    else:
                        outcome.missed.append(job.plan.name if job.plan else job.interruption)
                if client_rng.random() < READ_PROBABILITY:
                    await client.read_dashboard()

        async with asyncio.TaskGroup() as group:
            for number, client in enumerate(clients):
                group.create_task(work(client, number))
        known = {each.operation_id for client in clients for each in client.history.acknowledged}
        started = [operation for operation in outcome.jobs if operation in known]
        await wait_until_idle(environment, started)
        ended = await find_unrepaired(environment, started)
        await wait_until_repaired(environment, ended, seconds=150)
        outcome.repair_seconds = [await repair_duration_seconds(environment, each) for each in ended]
        await _check_clients_see_compensation(clients, ended, outcome)
        outcome.deaths = environment.deaths("activities")
        await asyncio.gather(*(client.check_tokens() for client in clients))
        outcome.observations = await collect_observations(environment, [client.history for client in clients])
    return outcome


async def _check_clients_see_compensation(
    clients: Sequence[ChaosClient], repaired: Sequence[str], outcome: RunResult
) -> None:
    """Check that the client of each repaired operation sees it as compensated."""
    owners = {each.operation_id: client for client in clients for each in client.history.acknowledged}
    for operation in repaired:
        if not await owners[operation].sees_compensation(operation):
            outcome.client_errors.append(f"{operation} was repaired and its client does not see the compensation")


async def _run_job(
    environment: ChaosEnvironment, temporal: Temporal, client: ChaosClient, job: Job, key: str, outcome: RunResult
) -> bool:
    """Run the operation of the job; return whether it was interrupted as planned."""
    operation = client.expected_operation_id(job.kind, key)
    outcome.jobs[operation] = job
    if job.plan is not None:
        environment.plans.add(operation, job.plan)
        _, status = await client.run_operation(job.kind, key)
        was_interrupted = environment.plans.was_reached(operation)
        outcome.crash_points_reached[job.kind] += was_interrupted
    else:
        interrupting = asyncio.create_task(_interrupt(temporal, client, job, operation))
        played, status = await client.run_operation(job.kind, key)
        if played != operation:  # the current tenant was another one, so nothing was interrupted
            interrupting.cancel()
            return False
        was_interrupted = await interrupting
        outcome.terminated += was_interrupted and job.interruption == "terminate"
    outcome.final_states[job.interruption, status] += 1
    return was_interrupted


def _may_end_session(job: Job) -> bool:
    """Whether the session of the user may stay ended until the repair: see docs/reliability.md."""
    return job.interruption == "terminate" and job.kind is OperationKind.TENANT_SWITCH


async def _interrupt(temporal: Temporal, client: ChaosClient, job: Job, operation: str) -> bool:
    """Cancel or terminate the operation after the delay; return False if it had ended."""
    while all(each.operation_id != operation for each in client.history.acknowledged):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await asyncio.sleep(job.moment)
    if job.interruption == "cancel":
        await client.cancel(operation)
        return True
    try:
        await temporal.get_workflow_handle(operation).terminate("chaos")
    except RPCError:
        return False
    return True


async def _kill_workflow_processes(
    environment: ChaosEnvironment, rng: random.Random, every: float, outcome: RunResult
) -> None:
    while True:
        await asyncio.sleep(rng.uniform(0.5, 1.5) * every)
        with suppress(OSError):
            environment.kill_one("workflows", 0)
            outcome.workflow_process_kills += 1


@asynccontextmanager
async def _open_clients(environment: ChaosEnvironment) -> AsyncIterator[list[ChaosClient]]:
    clients = [ChaosClient(environment, account, index) for index, account in enumerate(environment.accounts)]
    try:
        yield clients
    finally:
        for client in clients:
            await client.aclose()
