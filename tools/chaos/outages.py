"""Measure the response of each API operation during a network fault, the recovery time, and leaked resources."""

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
    CURRENT_TENANT,
    DASHBOARD,
    LOG_IN,
    ONBOARD,
    PROCESS,
    RETRYABLE,
    SWITCH,
    UPLOAD,
    ChaosClient,
    Json,
)
from tools.chaos.environment import PASSWORD, ChaosEnvironment
from tools.chaos.proxy import DELAYED_CLOSE, DOWN, LOW_BANDWIDTH, NORMAL, RESETTING, SLOW, STALLED, NetworkConditions

ANSWERED = "answers"
RESPONSE_TIMEOUT_SECONDS = 10.0
RECOVERY_TIMEOUT_SECONDS = 5.0
REDIS_DISTRUST_SECONDS = 3.0
"""The time after an outage of Redis in which gateways do not use cached sessions, because clocks may differ by 2 s."""
CONDITIONS = {"down": DOWN, "paused": STALLED, "slow": SLOW, "reset": RESETTING}
ALL_CONDITIONS = CONDITIONS | {"narrow": LOW_BANDWIDTH, "closing late": DELAYED_CLOSE}
CLIENT_NETWORK = "clients"
"""The name of the proxy between clients and the gateway; it is not a component."""
OPERATION = "query ($id: ID!) { operation(id: $id) { id status } }"
UPDATE_PREFERENCES = "mutation { updatePreferences(input: {theme: DARK}) { preferences { theme } } }"


@dataclass(frozen=True)
class ProbeResult:
    """``answer`` is ANSWERED or the first error code, ``seconds`` the response time, ``said`` the errors as text."""

    answer: str
    seconds: float
    said: str = ""


@dataclass
class OutageResults:
    """The results of all probes, and the recovery time in seconds, by component and fault."""

    cells: dict[tuple[str, str], dict[str, ProbeResult]] = field(default_factory=dict)
    recoveries: dict[tuple[str, str], float] = field(default_factory=dict)

    def faults(self) -> Iterator[str]:
        for (part, conditions), cells in self.cells.items():
            for name, probe in cells.items():
                if probe.answer != ANSWERED and probe.answer not in RETRYABLE:
                    yield f"{name} responds with {probe.answer} while {part} is {conditions}: {probe.said}"
                if probe.seconds > RESPONSE_TIMEOUT_SECONDS:
                    yield f"{name} takes {probe.seconds:.1f} s while {part} is {conditions}"
        for (part, conditions), seconds in self.recoveries.items():
            if seconds > RECOVERY_TIMEOUT_SECONDS:
                yield f"recovery took {seconds:.1f} s after {part} was {conditions}"


@dataclass(frozen=True)
class ProbeContext:
    """What is prepared before a fault: signed-in clients, an operation, uploads and a file."""

    main: ChaosClient
    switching_client: ChaosClient
    operation: str
    upload: str
    file: str
    target: Json


Probe = Callable[[ProbeContext], Awaitable[Json]]


def _probes() -> dict[str, Probe]:
    def new_user(context: ProbeContext) -> Awaitable[Json]:
        new = {"email": f"{uuid4().hex}@example.com", "name": "New", "password": PASSWORD}
        return context.main.execute(ONBOARD, {"input": new})

    def switch(context: ProbeContext) -> Awaitable[Json]:
        return context.switching_client.execute(
            SWITCH, {"input": {"tenantId": context.switching_client.account.other, "waitSeconds": 0}}
        )

    def log_in(context: ProbeContext) -> Awaitable[Json]:
        wanted = {"email": context.main.account.email, "password": PASSWORD, "waitSeconds": 0}
        return context.main.execute(LOG_IN, {"input": wanted})

    return {
        "login": log_in,
        "switchTenant": switch,
        "onboardUser": new_user,
        "createUpload": lambda context: context.main.execute(
            CREATE, {"input": {"name": "a.txt", "contentType": "text/plain", "size": len(CONTENT)}}
        ),
        "bytes of an upload": _upload_bytes,
        "completeUpload": lambda context: context.main.execute(UPLOAD, {"input": {"uploadId": context.upload}}),
        "processFile": lambda context: context.main.execute(PROCESS, {"input": {"fileId": context.file}}),
        "cancelOperation": lambda context: context.main.execute(CANCEL, {"input": {"id": context.operation}}),
        "updatePreferences": lambda context: context.main.execute(UPDATE_PREFERENCES),
        "viewer": lambda context: context.main.execute("{ viewer { session { id } } }"),
        "viewer.tenantOverview": lambda context: context.main.execute(CURRENT_TENANT),
        "viewer with lists": lambda context: context.main.execute(DASHBOARD),
        "operation": lambda context: context.main.execute(OPERATION, {"id": context.operation}),
        "healthz": _check_health,
    }


async def _upload_bytes(context: ProbeContext) -> Json:
    headers = {header["name"]: header["value"] for header in context.target["headers"]}
    async with httpx.AsyncClient(timeout=0.8 * RESPONSE_TIMEOUT_SECONDS, trust_env=False) as http:
        try:
            sent = await http.put(context.target["url"], content=CONTENT, headers=headers)
        except httpx.HTTPError:
            return _error("UPSTREAM_UNAVAILABLE")
    if sent.status_code == httpx.codes.OK:
        return {}
    refusal: Json = sent.json()
    return refusal


async def _check_health(context: ProbeContext) -> Json:
    async with httpx.AsyncClient(timeout=30, trust_env=False) as http:
        answer = await http.get(f"{context.main.url}/healthz")
    return {} if answer.status_code == httpx.codes.OK else _error(str(answer.status_code))


def _error(code: str) -> Json:
    return {"errors": [{"extensions": {"code": code}}]}


PROBES = _probes()


async def prepare(main: ChaosClient, switching_client: ChaosClient) -> ProbeContext:
    for client in (main, switching_client):
        await client.sign_in()
        client.tenant_id = client.account.home
    if await switching_client.current_tenant() != switching_client.account.home:
        switching_client.tenant_id = switching_client.account.other
        await switching_client.switch(uuid4().hex)
    upload = await main.create_staged_upload()
    operation, _ = await main.upload(uuid4().hex)
    new = {"name": "b.txt", "contentType": "text/plain", "size": len(CONTENT)}
    target = (await main.execute_with_retries(CREATE, {"input": new}))["createUpload"]["upload"]
    file = await main.create_file(uuid4().hex)
    await asyncio.gather(
        main.execute_with_retries(CURRENT_TENANT), switching_client.execute_with_retries(CURRENT_TENANT)
    )
    return ProbeContext(main, switching_client, operation, upload, file, target)


async def run_probe(name: str, context: ProbeContext) -> ProbeResult:
    started = time.monotonic()
    try:
        answer = await PROBES[name](context)
    except httpx.HTTPError as error:
        return ProbeResult(type(error).__name__, time.monotonic() - started)
    codes = [error.get("extensions", {}).get("code", "?") for error in answer.get("errors", ())]
    unexpected = [code for code in codes if code not in RETRYABLE]
    said = str(answer.get("errors", ""))
    return ProbeResult((unexpected or codes or [ANSWERED])[0], time.monotonic() - started, said)


async def measure_outages(
    environment: ChaosEnvironment,
    main: ChaosClient,
    switching_client: ChaosClient,
    parts: tuple[str, ...],
    conditions_by_name: dict[str, NetworkConditions],
    *,
    documented: Mapping[str, Mapping[str, str]],
    until: float = math.inf,
) -> OutageResults:
    """Send each probe under each fault of each component.

    The table holds for a session that the gateway has read within 0.8 s, and on a busy machine the probes take longer
    together. Therefore a probe that should answer and does not is repeated alone, right after the session was read,
    up to three times.

    Args:
        documented: The table of the documentation, by component and probe.
        until: The time, by the monotonic clock, after which no further fault is injected.
    """
    found = OutageResults()
    last = ""
    for part, name in product(parts, conditions_by_name):
        if time.monotonic() > until:
            break
        if last == "redis":
            await asyncio.sleep(REDIS_DISTRUST_SECONDS)
            await main.execute(CURRENT_TENANT)  # the gateway has reconnected to Redis by now; the time counts from here
            await asyncio.sleep(REDIS_DISTRUST_SECONDS)
        context = await prepare(main, switching_client)
        environment.network.set_conditions(part, conditions_by_name[name])
        try:
            cells = await asyncio.gather(*(run_probe(each, context) for each in PROBES))
        finally:
            environment.network.set_conditions(part, NORMAL)
        by_probe = dict(zip(PROBES, cells, strict=True))
        for probe, _ in product(PROBES, range(3)):
            if by_probe[probe].answer in RETRYABLE and documented[part][probe] == ANSWERED:
                by_probe[probe] = await _repeat_probe(environment, probe, context, part, conditions_by_name[name])
        found.cells[part, name] = by_probe
        found.recoveries[part, name] = await measure_recovery(main)
        last = part
    return found


async def _repeat_probe(
    environment: ChaosEnvironment, probe: str, context: ProbeContext, part: str, conditions: NetworkConditions
) -> ProbeResult:
    await asyncio.gather(
        context.main.execute_with_retries(CURRENT_TENANT), context.switching_client.execute_with_retries(CURRENT_TENANT)
    )
    environment.network.set_conditions(part, conditions)
    try:
        return await run_probe(probe, context)
    finally:
        environment.network.set_conditions(part, NORMAL)


async def measure_recovery(client: ChaosClient) -> float:
    """Return the seconds until a client can log in and read the dashboard, which needs all but storage and mail."""
    started = time.monotonic()
    wanted = {"email": client.account.email, "password": PASSWORD, "waitSeconds": 5}
    async with asyncio.timeout(90):
        while True:
            with suppress(httpx.HTTPError):
                answer = await client.execute(LOG_IN, {"input": wanted})
                login = (answer.get("data") or {}).get("login")
                if login and login["operation"]["status"] == "COMPLETED":
                    looked = await client.execute(DASHBOARD, token=login["sessionToken"])
                    if not looked.get("errors"):
                        return time.monotonic() - started
            await asyncio.sleep(0.1)


@dataclass(frozen=True)
class ProcessResources:
    """The numbers of threads, of open files and connections, and of tasks of the event loop by coroutine."""

    threads: int
    files: int
    tasks: Counter[str]


async def measure_resources(environment: ChaosEnvironment, name: str) -> ProcessResources:
    pid = environment.processes[name].pid
    file = environment.folder / f"{name}.tasks"
    file.unlink(missing_ok=True)
    os.kill(pid, signal.SIGUSR1)
    async with asyncio.timeout(20):
        while not file.exists():  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.05)
    process = Path("/proc") / str(pid)
    return ProcessResources(
        threads=len(list((process / "task").iterdir())),
        files=len(list((process / "fd").iterdir())),
        tasks=Counter(file.read_text().splitlines()),
    )


async def run_random_faults(
    environment: ChaosEnvironment,
    watcher: ChaosClient,
    parts: tuple[str, ...],
    count: int,
    seed: int,
    *,
    until: float = math.inf,
) -> list[tuple[str, str, float]]:
    """Inject short random faults one after another; return component, fault and recovery time of each."""
    rng = random.Random(seed)
    done: list[tuple[str, str, float]] = []
    for _ in range(count):
        if time.monotonic() > until:
            break
        part, conditions = rng.choice(parts), rng.choice(list(ALL_CONDITIONS))
        environment.network.set_conditions(part, ALL_CONDITIONS[conditions])
        try:
            await asyncio.sleep(rng.uniform(0.2, 1.2))
        finally:
            environment.network.set_conditions(part, NORMAL)
        done.append((part, conditions, await measure_recovery(watcher)))
    return done
