"""Gateway and worker as processes of their own, on PostgreSQL and Redis, and what happens when one of them dies."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import asyncpg
import pytest

from tests.end_to_end.client import Client, Json, step
from tests.servers import HOST, wait_until
from tests.stack import Stack, is_healthy, plain_environment, start_module, start_separate_stack
from worker.dev.ports import free_port


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """One of its own, for a test that kills its processes."""
    with start_separate_stack(tmp_path) as running:
        yield running


async def test_switches_tenants_and_ends_the_old_session(separate_stack: Stack) -> None:
    ada = Client(separate_stack)
    await ada.log_in("ada@example.com")
    here = await ada.current_tenant()
    there = "Globex" if here == "Acme" else "Acme"
    operation_id, token = await ada.start_switch(await ada.tenant(there))
    assert (await ada.to_its_end(operation_id))["status"] == "COMPLETED"
    assert await Client(separate_stack, token).current_tenant() == there
    assert (await ada.ask("{ viewer { user { id } } }"))["viewer"] is None


async def test_a_killed_worker_is_replaced_and_a_subscriber_that_stayed_sees_the_end(
    stack: Stack, tmp_path: Path
) -> None:
    ada = Client(stack)
    await ada.log_in("ada@example.com")
    globex = await ada.tenant("Globex")
    users = await asyncpg.connect(stack.environment["DATABASE_URL"])
    lock = users.transaction()
    await lock.start()
    await users.execute("LOCK TABLE users_user IN EXCLUSIVE MODE")  # a step that writes there stands still
    operation_id, token = await ada.start_switch(globex)

    seen: list[Json] = []
    async with asyncio.timeout(120), ada.follow(operation_id) as states:
        async for state in states:
            seen.append(state)
            if state["progress"]["currentStep"] == "set_tenant":
                break
        stack.processes["worker"].kill()  # in the middle of the step
        stack.processes["worker"].wait()
        await lock.rollback()
        await users.close()
        with start_module("worker", "all", environment=stack.environment, log=tmp_path / "second.log") as second:
            seen += [state async for state in states]
            assert await Client(stack, token).current_tenant() == "Globex"
            second.terminate()
            assert second.wait(30) == 0
    assert seen[-1]["status"] == "COMPLETED", seen[-1]
    assert step(seen[-1], "set_tenant")["attempt"] == 2
    assert "RETRYING" in [step(state, "set_tenant")["status"] for state in seen]


def test_each_domain_can_have_a_process_of_its_own_that_stops_in_peace(separate_stack: Stack, tmp_path: Path) -> None:
    domains = ("auth", "users", "tenants", "files", "operations")
    with ExitStack() as running:
        processes = {}
        for domain in domains:
            port, log = free_port(HOST), tmp_path / f"{domain}.log"
            environment = separate_stack.environment | {"WORKER_PORT": str(port)}
            process = running.enter_context(start_module("worker", domain, environment=environment, log=log))
            processes[domain] = (process, port, log)
        for process, port, log in processes.values():
            wait_until(partial(is_healthy, f"http://{HOST}:{port}"), process, log)
            process.terminate()
        for process, _, log in processes.values():
            assert process.wait(30) == 0, log.read_text()


def test_a_worker_says_what_its_environment_lacks(tmp_path: Path) -> None:
    with start_module("worker", "all", environment=plain_environment(), log=tmp_path / "log") as process:
        assert process.wait(60) == 2
    assert (tmp_path / "log").read_text() == (
        "The environment is not right: DATABASE_URL Field required; SERVICE_KEY Field required.\n"
    )
