"""Operations that something befalls: a worker's death at a named point, a cancellation, a termination."""

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
from tools.chaos.client import Actor, Refused
from tools.chaos.collect import gathered, quiet, repair_deadline_seconds, repaired, unclean
from tools.chaos.crash_points import Moment, Plan
from tools.chaos.environment import Ground
from tools.chaos.invariants import violations
from tools.chaos.observations import World
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
"""The activities of each saga that is struck, in order. ``Actor.play`` says how each is started."""
UNDOS = {done: undo.__name__ for done, undo in COMPENSATIONS.items()}
BEST_EFFORT = frozenset(("load_tenant_data", "send_welcome_email"))
WITHIN: dict[str, tuple[Moment, ...]] = {
    "upload_to_storage": ("copied",),
    "undo_create_file_record": ("removing", "removed"),
    "undo_upload_to_storage": ("removing", "removed"),
    "replace_session": ("telling",),
    "undo_create_session": ("telling",),
    "undo_record_sign_in": ("telling",),
    "undo_replace_session": ("telling",),
}
"""Points within activities that do something besides one transaction."""

Blow = Literal["kill", "cancel", "terminate"]
TRIES = 4
"""How often a job is begun in all until what it is about has befallen an operation."""
LOOKS = 0.3
"""Of a client's operations, those after which it looks around."""


def crash_points(kind: OperationKind) -> list[Plan]:
    """Every named point of a saga, on its way there and, with each step failing after it has acted, on its way back."""
    both: tuple[Moment, ...] = ("before", "after")
    calls = CALLS[kind]
    points = [Plan(call, moment) for call in calls for moment in (*both, *WITHIN.get(call, ()))]
    for place, failing in enumerate(calls):
        if kind is OperationKind.USER_ONBOARDING and failing in BEST_EFFORT:
            continue
        undos = [UNDOS[call] for call in calls[: place + 1] if call in UNDOS]
        points += [Plan(undo, moment, failing) for undo in undos for moment in (*both, *WITHIN.get(undo, ()))]
    return points


@dataclass(frozen=True)
class Job:
    """``moment``: seconds after the acknowledgement, for what comes from outside; each further try comes sooner."""

    kind: OperationKind
    blow: Blow
    plan: Plan | None = None
    moment: float = 0.0
    tries_left: int = TRIES - 1


@dataclass
class Outcome:
    """``reached``: points at which a worker was killed while an operation stood there, each of an operation of its own.

    ``missed``: jobs given up because an operation never came to its point, or was over before it was struck. ``ends``:
    how many operations ended how, by the blow. ``repairs``: seconds from the end of an operation to its repair.
    """

    seed: int
    world: World | None = None
    reached: Counter[OperationKind] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)
    ends: Counter[tuple[Blow, str]] = field(default_factory=Counter)
    repairs: list[float] = field(default_factory=list)
    jobs: dict[str, Job] = field(default_factory=dict)
    saga_kills: int = 0
    deaths: int = 0
    """Of worker processes with crash points: fewer than points, for one death may befall several operations."""

    terminated: int = 0
    broken: list[str] = field(default_factory=list)
    """What clients gave up on."""

    def check(self) -> None:
        """AssertionError with the seed and whatever befell the operations in question."""
        assert self.world is not None
        found = violations(self.world)
        said = [
            f"{each.invariant}: {each.words}  <- {[job for name, job in self.jobs.items() if name in each.words]}"
            for each in found
        ]
        assert not found, f"seed {self.seed}: {len(found)} violations\n" + "\n".join(said)
        assert not self.broken, f"seed {self.seed}: {self.broken}"


def kills(kinds: Sequence[OperationKind], each: int, seed: int) -> list[Job]:
    """So many for each saga: every named point once before any comes twice."""
    chance = random.Random(seed)
    jobs = []
    for kind in kinds:
        points = crash_points(kind)
        rounds = [chance.sample(points, len(points)) for _ in range(-(-each // len(points)))]
        jobs += [Job(kind, "kill", plan) for plan in [plan for points in rounds for plan in points][:each]]
    chance.shuffle(jobs)
    return jobs


def blows(blow: Blow, count: int, seed: int, *, within: float = 0.6) -> list[Job]:
    chance = random.Random(seed)
    return [Job(chance.choice(list(CALLS)), blow, None, chance.uniform(0, within)) for _ in range(count)]


async def carry_out(
    ground: Ground,
    jobs: Sequence[Job],
    seed: int,
    *,
    sagas_die_every: float | None = None,
    until: float = math.inf,
) -> Outcome:
    """Let the accounts of the ground do them all, each one after another; then wait until all is quiet, and look.

    The last comes first. ``until``: when no more are begun, by the monotonic clock.
    """
    outcome = Outcome(seed)
    waiting = list(jobs)
    chance = random.Random(seed)
    temporal = await ground.temporal()
    async with _actors(ground) as actors, AsyncExitStack() as stack:
        if sagas_die_every is not None:
            dying = asyncio.create_task(_kill_sagas(ground, chance, sagas_die_every, outcome))
            stack.callback(dying.cancel)

        async def work(actor: Actor, number: int) -> None:
            own = random.Random(f"{seed}.{number}")
            await actor.sign_in()
            may_be_out = False
            while waiting and time.monotonic() < until:
                job, key = waiting.pop(), f"{own.getrandbits(128):032x}"
                try:
                    was_struck = await _befell(ground, temporal, actor, job, key, outcome)
                    may_be_out |= was_struck and _may_end_session(job)
                except (Refused, TimeoutError) as error:
                    if may_be_out and isinstance(error, Refused) and error.code == "UNAUTHENTICATED":
                        may_be_out = False
                        waiting.append(job)
                        await actor.come_back(by_signing_in=own.random() < 0.5)
                        continue
                    outcome.broken.append(f"{job}: {error!r}")
                    continue
                if not was_struck:
                    if job.tries_left:
                        waiting.insert(0, replace(job, tries_left=job.tries_left - 1, moment=job.moment / 3))
                    else:
                        outcome.missed.append(job.plan.name if job.plan else job.blow)
                if own.random() < LOOKS:
                    await actor.look()

        async with asyncio.TaskGroup() as group:
            for number, actor in enumerate(actors):
                group.create_task(work(actor, number))
        known = {told.operation_id for actor in actors for told in actor.history.acknowledged}
        begun = [operation for operation in outcome.jobs if operation in known]
        await quiet(ground, begun)
        ended = await unclean(ground, begun)
        await repaired(ground, ended, seconds=150)
        outcome.repairs = [await repair_deadline_seconds(ground, each) for each in ended]
        await _say_so(actors, ended, outcome)
        outcome.deaths = ground.deaths("hands")
        await asyncio.gather(*(actor.try_tokens() for actor in actors))
        outcome.world = await gathered(ground, [actor.history for actor in actors])
    return outcome


async def _say_so(actors: Sequence[Actor], repaired: Sequence[str], outcome: Outcome) -> None:
    """To those whose operations they were."""
    whose = {told.operation_id: actor for actor in actors for told in actor.history.acknowledged}
    for operation in repaired:
        if not await whose[operation].is_told_undone(operation):
            outcome.broken.append(f"{operation} was repaired and its client is not told that it is undone")


async def _befell(ground: Ground, temporal: Temporal, actor: Actor, job: Job, key: str, outcome: Outcome) -> bool:
    """Whether the operation came to where the job strikes."""
    operation = actor.id_of(job.kind, key)
    outcome.jobs[operation] = job
    if job.plan is not None:
        ground.plans.make(operation, job.plan)
        _, status = await actor.play(job.kind, key)
        was_struck = ground.plans.was_reached(operation)
        outcome.reached[job.kind] += was_struck
    else:
        striking = asyncio.create_task(_strike(temporal, actor, job, operation))
        played, status = await actor.play(job.kind, key)
        if played != operation:  # the actor was in another tenant than it knew of, so nothing was struck
            striking.cancel()
            return False
        was_struck = await striking
        outcome.terminated += was_struck and job.blow == "terminate"
    outcome.ends[job.blow, status] += 1
    return was_struck


def _may_end_session(job: Job) -> bool:
    """Whether the session of who switches tenants may stay ended until the repair: see docs/reliability.md."""
    return job.blow == "terminate" and job.kind is OperationKind.TENANT_SWITCH


async def _strike(temporal: Temporal, actor: Actor, job: Job, operation: str) -> bool:
    """Whether it was there to be struck."""
    while all(told.operation_id != operation for told in actor.history.acknowledged):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await asyncio.sleep(job.moment)
    if job.blow == "cancel":
        await actor.cancel(operation)
        return True
    try:
        await temporal.get_workflow_handle(operation).terminate("chaos")
    except RPCError:
        return False
    return True


async def _kill_sagas(ground: Ground, chance: random.Random, every: float, outcome: Outcome) -> None:
    while True:
        await asyncio.sleep(chance.uniform(0.5, 1.5) * every)
        with suppress(OSError):
            ground.kill_one("sagas", 0)
            outcome.saga_kills += 1


@asynccontextmanager
async def _actors(ground: Ground) -> AsyncIterator[list[Actor]]:
    actors = [Actor(ground, account, index) for index, account in enumerate(ground.accounts)]
    try:
        yield actors
    finally:
        for actor in actors:
            await actor.aclose()
