"""Pause a server process while clients send requests, as if its machine hung."""

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

from tools.chaos.client import CURRENT_TENANT, LOG_IN, RETRYABLE, ChaosClient
from tools.chaos.environment import PASSWORD, ChaosEnvironment
from tools.chaos.outages import RESPONSE_TIMEOUT_SECONDS, measure_recovery
from tools.chaos.proxy import NORMAL, STALLED

PAUSABLE_COMPONENTS = ("temporal", "postgres", "redis", "storage", "smtp")
"""The first three are paused by SIGSTOP. The others are paused by a proxy that accepts connections and forwards no
data, as the kernel does for a stopped process."""


async def pause_component(
    environment: ChaosEnvironment, part: str, requesting: ChaosClient, working: list[ChaosClient], seconds: float
) -> tuple[list[str], float]:
    """Pause the component; return the unexpected responses and the recovery time in seconds.

    The ``working`` clients start operations before the pause and follow them to their end.
    """
    faults: list[str] = []
    async with asyncio.TaskGroup() as group:
        with ExitStack() as stack:
            for client in working:
                group.create_task(_work(client))
            await asyncio.sleep(0.1)
            stack.enter_context(await _stop_component(environment, part))
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                faults += [
                    said
                    for said in await asyncio.gather(_ask(requesting, CURRENT_TENANT), _ask(requesting, LOG_IN))
                    if said
                ]
                await asyncio.sleep(0.5)
        recovered = await measure_recovery(requesting)
    return faults, recovered


async def _work(client: ChaosClient) -> None:
    await client.upload(uuid4().hex)
    await client.onboard(uuid4().hex)
    await client.switch(uuid4().hex)


async def _stop_component(environment: ChaosEnvironment, part: str) -> AbstractContextManager[None]:
    if part in ("temporal", "postgres", "redis"):
        return stop_processes(await _component_processes(environment, part))
    return _stall_proxy(environment, part)


@contextmanager
def _stall_proxy(environment: ChaosEnvironment, part: str) -> Iterator[None]:
    environment.network.set_conditions(part, STALLED)
    try:
        yield
    finally:
        environment.network.set_conditions(part, NORMAL)


@contextmanager
def stop_processes(processes: list[int]) -> Iterator[None]:
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)


async def _ask(client: ChaosClient, document: str) -> str | None:
    started = time.monotonic()
    wanted = {"email": client.account.email, "password": PASSWORD, "waitSeconds": 0, "idempotencyKey": uuid4().hex}
    try:
        answer = await client.execute(document, {"input": wanted} if document == LOG_IN else {})
    except httpx.HTTPError as error:
        return type(error).__name__
    seconds = time.monotonic() - started
    codes = {error.get("extensions", {}).get("code", "?") for error in answer.get("errors", ())}
    if codes - RETRYABLE:
        return f"{sorted(codes)}"
    return f"an answer after {seconds:.1f} s" if seconds > RESPONSE_TIMEOUT_SECONDS else None


async def _component_processes(environment: ChaosEnvironment, part: str) -> list[int]:
    """Return the process ids of the component; each session of PostgreSQL is a process."""
    if part != "postgres":
        return [environment.processes[part].pid]
    database = await environment.database()
    folder = await database.fetchval("SHOW data_directory")
    await database.close()
    return await asyncio.to_thread(_process_tree, Path(folder))


def _process_tree(folder: Path) -> list[int]:
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
