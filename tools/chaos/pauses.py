"""Parts that are stopped for as long as a machine may hang, while clients keep asking."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

import httpx

from tools.chaos.client import LOG_IN, RETRYABLE, WHO, Actor
from tools.chaos.environment import PASSWORD, Ground
from tools.chaos.outages import ANSWER_SECONDS, recovery
from tools.chaos.proxy import FAIR, SILENT

STOPPABLE = ("temporal", "postgres", "redis", "storage", "smtp")
"""The first three by SIGSTOP of their processes. The others by a proxy that takes connections and lets nothing through,
as the kernel does for a process that is stopped."""


async def paused(
    ground: Ground, part: str, asking: Actor, working: list[Actor], seconds: float
) -> tuple[list[str], float]:
    """What clients were told wrongly meanwhile, and the seconds until all was well again.

    Those who are working start operations before, which end when they can.
    """
    wrong: list[str] = []
    async with asyncio.TaskGroup() as group:
        with ExitStack() as stack:
            for actor in working:
                group.create_task(_work(actor))
            await asyncio.sleep(0.1)
            stack.enter_context(await _stopped(ground, part))
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                wrong += [said for said in await asyncio.gather(_ask(asking, WHO), _ask(asking, LOG_IN)) if said]
                await asyncio.sleep(0.5)
        recovered = await recovery(asking)
    return wrong, recovered


async def _work(actor: Actor) -> None:
    await actor.upload(uuid4().hex)
    await actor.onboard(uuid4().hex)
    await actor.switch(uuid4().hex)


async def _stopped(ground: Ground, part: str) -> AbstractContextManager[None]:
    if part in ("temporal", "postgres", "redis"):
        return stopped(await _processes(ground, part))
    return _silent(ground, part)


@contextmanager
def _silent(ground: Ground, part: str) -> Iterator[None]:
    ground.network.turn(part, SILENT)
    try:
        yield
    finally:
        ground.network.turn(part, FAIR)


@contextmanager
def stopped(processes: list[int]) -> Iterator[None]:
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)


async def _ask(actor: Actor, document: str) -> str | None:
    began = time.monotonic()
    wanted = {"email": actor.account.email, "password": PASSWORD, "waitSeconds": 0, "idempotencyKey": uuid4().hex}
    try:
        answer = await actor.hear(document, {"input": wanted} if document == LOG_IN else {})
    except httpx.HTTPError as error:
        return type(error).__name__
    seconds = time.monotonic() - began
    codes = {error.get("extensions", {}).get("code", "?") for error in answer.get("errors", ())}
    if codes - RETRYABLE:
        return f"{sorted(codes)}"
    return f"an answer after {seconds:.1f} s" if seconds > ANSWER_SECONDS else None


async def _processes(ground: Ground, part: str) -> list[int]:
    """PostgreSQL's sessions are processes of their own."""
    if part != "postgres":
        return [ground.processes[part].pid]
    database = await ground.database()
    folder = await database.fetchval("SHOW data_directory")
    await database.close()
    return await asyncio.to_thread(_family, Path(folder))


def _family(folder: Path) -> list[int]:
    parent = int((folder / "postmaster.pid").read_text().split()[0])
    found = [parent]
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:  # it ended
            continue
        if int(fields[1]) == parent:
            found.append(int(status.parent.name))
    return found
