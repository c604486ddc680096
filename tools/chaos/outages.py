"""What each operation answers while a part is away, how soon all is well once it is back, and what leaks."""

from __future__ import annotations

import asyncio
import math
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from uuid import uuid4

import httpx

from tests.end_to_end.files import CREATE
from tools.chaos.client import (
    CANCEL,
    CONTENT,
    LOG_IN,
    LOOK,
    ONBOARD,
    PROCESS,
    RETRYABLE,
    SWITCH,
    UPLOAD,
    WHO,
    Actor,
    Json,
)
from tools.chaos.environment import PASSWORD, Ground
from tools.chaos.proxy import DOWN, FAIR, LINGERING, NARROW, RESETTING, SILENT, SLOW, Weather

ANSWERS = "answers"
ANSWER_SECONDS = 10.0
RECOVERY_SECONDS = 5.0
DISBELIEF_SECONDS = 3.0
"""After Redis was away, until a copy that it keeps is believed: replicas' clocks may differ by two."""
WEATHERS = {"down": DOWN, "paused": SILENT, "slow": SLOW, "reset": RESETTING}
ALL_WEATHERS = WEATHERS | {"narrow": NARROW, "closing late": LINGERING}
CLIENTS = "clients"
"""Not a part: the network between clients and the gateway, for those who come through its proxy."""
OPERATION = "query ($id: ID!) { operation(id: $id) { id status } }"
PREFER = "mutation { updatePreferences(input: {theme: DARK}) { preferences { theme } } }"


@dataclass(frozen=True)
class Cell:
    """``answer``: ``answers`` or the code of the one error; ``seconds``: how long the client waited for it; ``said``:
    the error as it came."""

    answer: str
    seconds: float
    said: str = ""


@dataclass
class Measured:
    """By the part and what became of it: what each operation answered, and the seconds until all was well again."""

    cells: dict[tuple[str, str], dict[str, Cell]] = field(default_factory=dict)
    recoveries: dict[tuple[str, str], float] = field(default_factory=dict)

    def faults(self) -> Iterator[str]:
        for (part, weather), cells in self.cells.items():
            for name, cell in cells.items():
                if cell.answer != ANSWERS and cell.answer not in RETRYABLE:
                    yield f"{name} says {cell.answer} while {part} is {weather}: {cell.said}"
                if cell.seconds > ANSWER_SECONDS:
                    yield f"{name} takes {cell.seconds:.1f} s while {part} is {weather}"
        for (part, weather), seconds in self.recoveries.items():
            if seconds > RECOVERY_SECONDS:
                yield f"all is well {seconds:.1f} s after {part} was {weather}"


@dataclass(frozen=True)
class Prepared:
    """What is at hand before a part goes away: whoever asks is signed in and was here a moment ago."""

    main: Actor
    walker: Actor
    operation: str
    upload: str
    file: str
    target: Json


Probe = Callable[[Prepared], Awaitable[Json]]


def _probes() -> dict[str, Probe]:
    def new_user(ready: Prepared) -> Awaitable[Json]:
        new = {"email": f"{uuid4().hex}@example.com", "name": "New", "password": PASSWORD}
        return ready.main.hear(ONBOARD, {"input": new})

    def switch(ready: Prepared) -> Awaitable[Json]:
        return ready.walker.hear(SWITCH, {"input": {"tenantId": ready.walker.account.other, "waitSeconds": 0}})

    def log_in(ready: Prepared) -> Awaitable[Json]:
        wanted = {"email": ready.main.account.email, "password": PASSWORD, "waitSeconds": 0}
        return ready.main.hear(LOG_IN, {"input": wanted})

    return {
        "login": log_in,
        "switchTenant": switch,
        "onboardUser": new_user,
        "createUpload": lambda ready: ready.main.hear(
            CREATE, {"input": {"name": "a.txt", "contentType": "text/plain", "size": len(CONTENT)}}
        ),
        "bytes of an upload": _send,
        "completeUpload": lambda ready: ready.main.hear(UPLOAD, {"input": {"uploadId": ready.upload}}),
        "processFile": lambda ready: ready.main.hear(PROCESS, {"input": {"fileId": ready.file}}),
        "cancelOperation": lambda ready: ready.main.hear(CANCEL, {"input": {"id": ready.operation}}),
        "updatePreferences": lambda ready: ready.main.hear(PREFER),
        "viewer": lambda ready: ready.main.hear("{ viewer { session { id } } }"),
        "viewer.tenantOverview": lambda ready: ready.main.hear(WHO),
        "viewer with lists": lambda ready: ready.main.hear(LOOK),
        "operation": lambda ready: ready.main.hear(OPERATION, {"id": ready.operation}),
        "healthz": _health,
    }


async def _send(ready: Prepared) -> Json:
    headers = {header["name"]: header["value"] for header in ready.target["headers"]}
    async with httpx.AsyncClient(timeout=0.8 * ANSWER_SECONDS, trust_env=False) as http:
        try:
            sent = await http.put(ready.target["url"], content=CONTENT, headers=headers)
        except httpx.HTTPError:
            return _error("UPSTREAM_UNAVAILABLE")
    if sent.status_code == httpx.codes.OK:
        return {}
    refusal: Json = sent.json()
    return refusal


async def _health(ready: Prepared) -> Json:
    async with httpx.AsyncClient(timeout=30, trust_env=False) as http:
        answer = await http.get(f"{ready.main.url}/healthz")
    return {} if answer.status_code == httpx.codes.OK else _error(str(answer.status_code))


def _error(code: str) -> Json:
    return {"errors": [{"extensions": {"code": code}}]}


PROBES = _probes()


async def prepared(main: Actor, walker: Actor) -> Prepared:
    for actor in (main, walker):
        await actor.sign_in()
        actor.tenant_id = actor.account.home
    if await walker.works_in() != walker.account.home:
        walker.tenant_id = walker.account.other
        await walker.switch(uuid4().hex)
    upload = await main.staged()
    operation, _ = await main.upload(uuid4().hex)
    new = {"name": "b.txt", "contentType": "text/plain", "size": len(CONTENT)}
    target = (await main.ask(CREATE, {"input": new}))["createUpload"]["upload"]
    file = await main.file_of(uuid4().hex)
    await asyncio.gather(main.ask(WHO), walker.ask(WHO))
    return Prepared(main, walker, operation, upload, file, target)


async def cell(name: str, ready: Prepared) -> Cell:
    began = time.monotonic()
    try:
        answer = await PROBES[name](ready)
    except httpx.HTTPError as error:
        return Cell(type(error).__name__, time.monotonic() - began)
    codes = [error.get("extensions", {}).get("code", "?") for error in answer.get("errors", ())]
    unexpected = [code for code in codes if code not in RETRYABLE]
    said = str(answer.get("errors", ""))
    return Cell((unexpected or codes or [ANSWERS])[0], time.monotonic() - began, said)


async def measured(
    ground: Ground,
    main: Actor,
    walker: Actor,
    parts: tuple[str, ...],
    weathers: dict[str, Weather],
    *,
    documented: Mapping[str, Mapping[str, str]],
    until: float = math.inf,
) -> Measured:
    """Ask for each operation while each part is in each weather.

    The table holds for a session that the gateway has read within 0.8 s, and on a busy machine the probes take longer
    together. Therefore a probe that should answer and does not is repeated alone, right after the session was read,
    up to three times.

    Args:
        documented: The table of the documentation, by part and operation.
        until: When no part is turned any more, by the monotonic clock.
    """
    found = Measured()
    last = ""
    for part, name in product(parts, weathers):
        if time.monotonic() > until:
            break
        if last == "redis":
            await asyncio.sleep(DISBELIEF_SECONDS)
            await main.hear(WHO)  # the gateway has subscribed again meanwhile: from here it counts
            await asyncio.sleep(DISBELIEF_SECONDS)
        ready = await prepared(main, walker)
        ground.network.turn(part, weathers[name])
        try:
            cells = await asyncio.gather(*(cell(each, ready) for each in PROBES))
        finally:
            ground.network.turn(part, FAIR)
        by_probe = dict(zip(PROBES, cells, strict=True))
        for probe, _ in product(PROBES, range(3)):
            if by_probe[probe].answer in RETRYABLE and documented[part][probe] == ANSWERS:
                by_probe[probe] = await _cell_alone(ground, probe, ready, part, weathers[name])
        found.cells[part, name] = by_probe
        found.recoveries[part, name] = await recovery(main)
        last = part
    return found


async def _cell_alone(ground: Ground, probe: str, ready: Prepared, part: str, weather: Weather) -> Cell:
    await asyncio.gather(ready.main.ask(WHO), ready.walker.ask(WHO))
    ground.network.turn(part, weather)
    try:
        return await cell(probe, ready)
    finally:
        ground.network.turn(part, FAIR)


async def recovery(actor: Actor) -> float:
    """Seconds until somebody can log in and look around: that takes every part but storage and mail."""
    began = time.monotonic()
    wanted = {"email": actor.account.email, "password": PASSWORD, "waitSeconds": 5}
    async with asyncio.timeout(90):
        while True:
            with suppress(httpx.HTTPError):
                answer = await actor.hear(LOG_IN, {"input": wanted})
                login = (answer.get("data") or {}).get("login")
                if login and login["operation"]["status"] == "COMPLETED":
                    looked = await actor.hear(LOOK, token=login["sessionToken"])
                    if not looked.get("errors"):
                        return time.monotonic() - began
            await asyncio.sleep(0.1)


@dataclass(frozen=True)
class Held:
    """What a process holds: threads, open files and connections, tasks of its event loop by their coroutine."""

    threads: int
    files: int
    tasks: Counter[str]


async def held(ground: Ground, name: str) -> Held:
    pid = ground.processes[name].pid
    told = ground.folder / f"{name}.tasks"
    told.unlink(missing_ok=True)
    os.kill(pid, signal.SIGUSR1)
    async with asyncio.timeout(20):
        while not told.exists():  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.05)
    process = Path("/proc") / str(pid)
    return Held(
        threads=len(list((process / "task").iterdir())),
        files=len(list((process / "fd").iterdir())),
        tasks=Counter(told.read_text().splitlines()),
    )


async def rounds(
    ground: Ground, watcher: Actor, parts: tuple[str, ...], count: int, seed: int, *, until: float = math.inf
) -> list[tuple[str, str, float]]:
    """A part after another has bad weather for a moment, at random; after each, the seconds until all is well."""
    chance = random.Random(seed)
    done: list[tuple[str, str, float]] = []
    for _ in range(count):
        if time.monotonic() > until:
            break
        part, weather = chance.choice(parts), chance.choice(list(ALL_WEATHERS))
        ground.network.turn(part, ALL_WEATHERS[weather])
        try:
            await asyncio.sleep(chance.uniform(0.2, 1.2))
        finally:
            ground.network.turn(part, FAIR)
        done.append((part, weather, await recovery(watcher)))
    return done
