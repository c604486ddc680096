"""Parts that are stopped by SIGSTOP, for as long as a machine may hang, while clients keep asking."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import httpx

from tests.chaos.actor import LOG_IN, RETRYABLE, WHO, Actor
from tests.chaos.ground import PASSWORD, Ground
from tests.chaos.outages import ANSWER_SECONDS, recovery

STOPPABLE = ("temporal", "postgres", "redis")


async def paused(ground: Ground, part: str, actor: Actor, seconds: float) -> tuple[list[str], float]:
    """What clients were told wrongly meanwhile, and the seconds until all was well again."""
    wrong: list[str] = []
    with stopped(await _processes(ground, part)):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            wrong += [said for said in await asyncio.gather(_ask(actor, WHO), _ask(actor, LOG_IN)) if said]
            await asyncio.sleep(0.5)
    return wrong, await recovery(actor)


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
