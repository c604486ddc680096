"""Measure queries: the viewer against graphql-yoga, and the dashboard with a warm and a cold cache."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from redis.asyncio import Redis

from contracts.auth import Role, Session
from contracts.base import utc_now
from contracts.users import User
from tests.servers import HOST
from tools.benchmarks.environment import BenchmarkEnvironment
from tools.benchmarks.figures import Figure, at_least, at_most, median
from tools.benchmarks.processes import cpu_seconds, start_load_process
from tools.benchmarks.raw_protocol import HttpConnection

VIEWER = "{ viewer { user { id name email } session { id expiresAt } } }"
DASHBOARD_FIELDS = {
    "profile": "profile { id name email }",
    "tenant": "tenant { id name featureFlags { name enabled } }",
    "recentFiles": "recentFiles { id name size }",
    "activeOperations": "activeOperations { id status progress { fraction } }",
}


async def viewer(environment: BenchmarkEnvironment) -> list[Figure]:
    """Compare both gateways, which read the session from Redis and the user from a service with constant responses."""
    session = Session(
        id="ses_" + "1" * 32,
        user_id=environment.viewer.user_id,
        tenant_id=environment.viewer.tenant_id,
        role=Role.ADMIN,
        permissions=("operations:administer", "users:onboard"),
        created_at=utc_now(),
        expires_at=utc_now() + timedelta(days=1),
    )
    ada = User(
        id=session.user_id, email="ada@example.com", name="Ada Lovelace", mfa_enabled=False, created_at=utc_now()
    )
    answers: dict[str, object] = {
        "/auth/get_current_session": session.model_dump(mode="json"),
        "/users/get_users": [ada.model_dump(mode="json")],
    }
    rates: dict[str, list[float]] = {"ours": [], "yoga": []}
    cost: dict[str, list[float]] = {"ours": [], "yoga": []}
    with environment.instant_services(answers) as services:
        at = {"AUTH_URL": services, "USERS_URL": services}
        with environment.another_gateway(**at) as (gateway, port), environment.peer(**at) as (peer, peer_port):
            async with (
                start_load_process(environment, "http", port=port, query=VIEWER, token="viewer") as ours,
                start_load_process(environment, "http", port=peer_port, query=VIEWER, token="viewer") as yoga,
            ):
                for warm in (ours, yoga):
                    await warm.do(concurrency=16, seconds=2)
                for _ in range(6):
                    for name, asked, pid in (("ours", ours, gateway.pid), ("yoga", yoga, peer.pid)):
                        before = cpu_seconds(pid)
                        done = await asked.do(concurrency=16, seconds=2)
                        count = len(done["milliseconds"])
                        rates[name].append(count / done["seconds"])
                        cost[name].append((cpu_seconds(pid) - before) * 1000 / count)
    mine, theirs = median(rates["ours"]), median(rates["yoga"])
    detail = (
        f"{mine:.0f} against {theirs:.0f} a second; processor time each {median(cost['ours']):.2f} against "
        f"{median(cost['yoga']):.2f} ms"
    )
    what = "A viewer query, warm, requests a second over graphql-yoga's"
    return [at_least(what, mine / theirs, 0.6, detail=detail)]


async def dashboard(environment: BenchmarkEnvironment) -> list[Figure]:
    connection = await HttpConnection.open(HOST, environment.port)
    _, sdl = await connection.get("/graphql/schema")
    connection.close()
    if b"dashboard" not in sdl:
        return [Figure("A warm dashboard; a cold one", "≤ 5 ms", "not there yet", None)]
    whole = " ".join(DASHBOARD_FIELDS.values())
    async with start_load_process(environment, "http", query=_dashboard(whole)) as asked:
        await asked.do(concurrency=1, count=20)
        warm = median((await asked.do(concurrency=1, count=300))["milliseconds"])
    cold = await _measure_cold(environment, whole)
    alone = {name: await _measure_cold(environment, selection) for name, selection in DASHBOARD_FIELDS.items()}
    slowest = max(alone, key=lambda name: alone[name])
    detail = f"alone: {', '.join(f'{name} {took:.1f} ms' for name, took in alone.items())}"
    return [
        at_most("A warm dashboard, p50", warm, 5, unit=" ms"),
        at_most(
            "A cold one over its slowest source",
            cold - alone[slowest],
            5,
            unit=" ms",
            detail=f"{cold:.1f} ms; {detail}",
        ),
    ]


def _dashboard(selection: str) -> str:
    return f"{{ viewer {{ dashboard {{ {selection} lastUpdated }} }} }}"


async def _measure_cold(environment: BenchmarkEnvironment, selection: str) -> float:
    """Return the median milliseconds of the query without the dashboard in the cache."""
    took: list[float] = []
    async with (
        Redis.from_url(environment.variables["REDIS_URL"]) as redis,
        start_load_process(environment, "http", query=_dashboard(selection)) as asked,
    ):
        for _ in range(25):
            kept = [key async for key in redis.scan_iter("*dashboard*")]
            if kept:
                await redis.delete(*kept)
            took += (await asked.do(concurrency=1, count=1))["milliseconds"]
            await asyncio.sleep(0.05)
    return median(took)
