"""RedisPolicy: the three behaviours while Redis is unavailable, the timeout, the probe, and the log events."""

from __future__ import annotations

import ast
import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from contracts.errors import ServiceUnavailable
from infrastructure.redis_policy import RedisPolicy
from tests.redis_server import RedisServer
from worker.dev.ports import free_port

ROOT = Path(__file__).parents[2]
LAYERS = ("gateway", "schema", "resolvers", "activities", "workflows", "worker", "contracts", "infrastructure")
POLICY = "infrastructure/redis_policy.py"
TYPES_AND_ERRORS = {
    "infrastructure/observability/response_trace.py": "the type of the client that it instruments",
    "infrastructure/caching/cache.py": "the type of the client that its commands receive",
    "infrastructure/change_notifications.py": "sends and receives over clients that the policy creates",
    "infrastructure/limits/distributed_quota.py": "the type of the client that its commands receive",
    "infrastructure/limits/rate_limit.py": "the type of the client that its commands receive",
    "infrastructure/topic_subscriptions.py": "the type of the subscription",
    "worker/error_classification.py": "names errors of Redis in the log",
}
"""Modules that import redis without creating a client, and their reason."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.close()


@pytest.fixture
async def policy(server: RedisServer) -> AsyncIterator[RedisPolicy]:
    async with RedisPolicy(server.url, timeout_seconds=0.5, probe_interval_seconds=0.1).running() as policy:
        yield policy


async def set_and_get(redis: Redis) -> str:
    await redis.set("key", "from Redis")
    found = await redis.get("key")
    assert isinstance(found, bytes)
    return found.decode()


async def in_process() -> str:
    return "from this process"


async def until_available(policy: RedisPolicy) -> None:
    async with asyncio.timeout(10):
        while not policy.is_available:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.02)


async def outcomes(policy: RedisPolicy) -> tuple[str, str, str]:
    """Return the result of a command with bypass, local and refuse."""
    try:
        refused = await policy.refuse(set_and_get)
    except ServiceUnavailable as error:
        refused = f"UPSTREAM_UNAVAILABLE {error.service}"
    return await policy.bypass(set_and_get, "nothing"), await policy.local(set_and_get, in_process), refused


AVAILABLE = ("from Redis",) * 3
UNAVAILABLE = ("nothing", "from this process", "UPSTREAM_UNAVAILABLE redis")


async def test_each_behaviour_applies_while_redis_is_killed_and_ends_with_its_restart(
    server: RedisServer, policy: RedisPolicy
) -> None:
    assert await outcomes(policy) == AVAILABLE
    for _ in range(2):
        server.kill()
        assert await outcomes(policy) == UNAVAILABLE
        assert not policy.is_available
        server.start()
        await until_available(policy)
        assert await outcomes(policy) == AVAILABLE


async def test_each_behaviour_applies_while_redis_hangs(server: RedisServer, policy: RedisPolicy) -> None:
    assert await outcomes(policy) == AVAILABLE
    server.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    assert await outcomes(policy) == UNAVAILABLE
    assert 0.4 < time.monotonic() - began < 2, "the first command waits for the timeout, the others do not"
    began = time.monotonic()
    for _ in range(100):
        assert await policy.bypass(set_and_get, "nothing") == "nothing"
    assert time.monotonic() - began < 0.3
    server.send_signal(signal.SIGCONT)
    await until_available(policy)
    assert await outcomes(policy) == AVAILABLE


async def test_beginning_and_end_of_an_outage_are_logged_once_each(server: RedisServer, policy: RedisPolicy) -> None:
    with capture_logs() as logs:
        await outcomes(policy)
        server.kill()
        await asyncio.gather(*(outcomes(policy) for _ in range(20)))
        await asyncio.sleep(0.5)  # several probes
        server.start()
        await until_available(policy)
        await outcomes(policy)
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [
        ("redis_unavailable", "warning"),
        ("redis_available", "info"),
    ]
    assert logs[1]["unavailable_seconds"] > 0.4


async def test_restart_of_redis_between_two_commands_causes_no_error(server: RedisServer, policy: RedisPolicy) -> None:
    """The restart closes the connections, which the client notices when it uses them."""
    await asyncio.gather(*(policy.refuse(set_and_get) for _ in range(10)))
    server.kill()
    server.start()
    with capture_logs() as logs:
        assert await asyncio.gather(*(policy.refuse(set_and_get) for _ in range(10))) == ["from Redis"] * 10
    assert logs == []


async def test_process_starts_without_redis_and_uses_it_when_available(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    async with RedisPolicy(server.url, probe_interval_seconds=0.1).running() as policy:
        assert await outcomes(policy) == UNAVAILABLE
        server.start()
        try:
            await until_available(policy)
            assert await outcomes(policy) == AVAILABLE
        finally:
            server.close()


async def test_command_with_always_is_sent_during_an_outage(server: RedisServer) -> None:
    async with RedisPolicy(server.url, timeout_seconds=0.5, probe_interval_seconds=3600).running() as policy:
        server.kill()
        assert await policy.bypass(set_and_get, "nothing") == "nothing"
        await asyncio.sleep(0.1)  # the first probe fails, and the next one follows after an hour
        server.start()
        assert await policy.bypass(set_and_get, "nothing") == "nothing"
        assert await policy.bypass(set_and_get, "nothing", always=True) == "from Redis"


async def test_rejected_command_does_not_mark_redis_as_unavailable(policy: RedisPolicy) -> None:
    async def wrong_type(redis: Redis) -> str:
        await redis.delete("list")
        await redis.lpush("list", "value")
        return str(await redis.get("list"))

    with capture_logs() as logs:
        assert await policy.bypass(wrong_type, "nothing") == "nothing"
        assert policy.is_available
        assert await outcomes(policy) == AVAILABLE
    assert [entry["event"] for entry in logs] == ["redis_command_failed"]


async def test_error_of_the_caller_is_raised_unchanged(policy: RedisPolicy) -> None:
    async def fault(_redis: Redis) -> str:
        raise ZeroDivisionError

    for behaviour in (policy.refuse(fault), policy.bypass(fault, "nothing"), policy.local(fault, in_process)):
        with pytest.raises(ZeroDivisionError):
            await behaviour
    assert policy.is_available


async def test_cancelled_command_does_not_mark_redis_as_unavailable(server: RedisServer, policy: RedisPolicy) -> None:
    assert await outcomes(policy) == AVAILABLE
    server.send_signal(signal.SIGSTOP)
    cancelled = asyncio.create_task(policy.refuse(set_and_get))
    await asyncio.sleep(0.1)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    server.send_signal(signal.SIGCONT)
    assert policy.is_available
    assert await outcomes(policy) == AVAILABLE


async def test_ping_raises_an_error_while_redis_is_down(server: RedisServer, policy: RedisPolicy) -> None:
    assert await policy.ping()
    server.kill()
    with pytest.raises(Exception):  # noqa: B017, PT011 - the readiness check takes any failure
        await policy.ping()


async def test_many_commands_wait_for_connections_without_an_outage(server: RedisServer) -> None:
    """The time in which a command waits for a connection does not count as a timeout of Redis."""
    async with RedisPolicy(server.url, timeout_seconds=0.5).running() as policy:
        with capture_logs() as logs:
            answers = await asyncio.gather(*(policy.refuse(lambda redis: redis.ping()) for _ in range(5_000)))
        assert answers == [True] * 5_000
        assert logs == []
        clients = await server.execute("CLIENT", "LIST")
    assert len(clients.splitlines()) <= 60


async def test_waiting_commands_fail_with_the_first_timeout_while_redis_hangs(
    server: RedisServer, policy: RedisPolicy
) -> None:
    assert await policy.refuse(set_and_get) == "from Redis"
    server.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    found = await asyncio.gather(*(policy.bypass(set_and_get, "nothing") for _ in range(2_000)))
    assert set(found) == {"nothing"}
    assert time.monotonic() - began < 3, "commands that wait for a connection do not each wait for a timeout"
    server.send_signal(signal.SIGCONT)


async def test_missing_redis_is_not_noticed_before_a_command_needs_it() -> None:
    with capture_logs() as logs:
        async with RedisPolicy(f"redis://127.0.0.1:{free_port('127.0.0.1')}/0").running():
            await asyncio.sleep(0.1)
    assert logs == []


CLIENTS = ("Redis", "StrictRedis", "RedisCluster", "Sentinel", "RedisStorage")


def imports_redis(source: str) -> bool:
    nodes = list(ast.walk(ast.parse(source)))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return any(name.partition(".")[0] in ("redis", "aiocache", "limits", "valkey", "coredis") for name in names)


def creates_client(source: str) -> bool:
    """Return whether the source creates a client or a connection pool of Redis."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Attribute) and called.attr in ("from_url", "from_pool"):
            return True
        name = called.id if isinstance(called, ast.Name) else called.attr if isinstance(called, ast.Attribute) else ""
        if name in ("Redis", "StrictRedis", "RedisCluster", "Sentinel", "RedisStorage") or name.endswith(
            "ConnectionPool"
        ):
            return True
    return False


def test_only_the_policy_creates_redis_clients() -> None:
    sources = {
        str(path.relative_to(ROOT)): path.read_text() for layer in LAYERS for path in (ROOT / layer).rglob("*.py")
    }
    assert creates_client(sources.pop(POLICY))
    assert {path for path, source in sources.items() if imports_redis(source)} <= TYPES_AND_ERRORS.keys()
    assert [path for path, source in sources.items() if creates_client(source)] == []


@pytest.mark.parametrize(
    "source",
    ["import redis\nredis.asyncio.Redis(host='x')", "Redis.from_url(url)", "BlockingConnectionPool(max_connections=1)"],
)
def test_scan_finds_the_creation_of_a_redis_client(source: str) -> None:
    assert creates_client(source)
