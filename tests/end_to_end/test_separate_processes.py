"""Gateway and worker as separate processes on PostgreSQL and Redis, and what happens when a process is killed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import asyncpg
import pytest

from tests.end_to_end.client import Client, Json, step_of
from tests.servers import HOST, wait_until
from tests.stack import Stack, is_healthy, plain_environment, start_module, start_separate_stack
from worker.dev.ports import free_port


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A separate stack of this test only, because the test kills its processes."""
    with start_separate_stack(tmp_path) as running:
        yield running


async def test_switches_tenants_and_ends_the_old_session(separate_stack: Stack) -> None:
    ada = Client(separate_stack)
    await ada.log_in("ada@example.com")
    current_tenant = await ada.current_tenant()
    other_tenant = "Globex" if current_tenant == "Acme" else "Acme"
    operation_id, token = await ada.start_switch(await ada.tenant_id(other_tenant))
    assert (await ada.wait_for_final_state(operation_id))["status"] == "COMPLETED"
    assert await Client(separate_stack, token).current_tenant() == other_tenant
    assert (await ada.execute("{ viewer { user { id } } }"))["viewer"] is None


async def test_subscriber_receives_the_end_from_the_replacement_of_a_killed_worker(
    stack: Stack, tmp_path: Path
) -> None:
    ada = Client(stack)
    await ada.log_in("ada@example.com")
    globex = await ada.tenant_id("Globex")
    database = await asyncpg.connect(stack.environment["DATABASE_URL"])
    lock = database.transaction()
    await lock.start()
    await database.execute("LOCK TABLE users_user IN EXCLUSIVE MODE")  # blocks the step that writes this table
    operation_id, token = await ada.start_switch(globex)

    received: list[Json] = []
    async with asyncio.timeout(120), ada.follow(operation_id) as states:
        async for state in states:
            received.append(state)
            if state["progress"]["currentStep"] == "set_tenant":
                break
        stack.processes["worker"].kill()  # during the step
        stack.processes["worker"].wait()
        await lock.rollback()
        await database.close()
        with start_module("worker", "all", environment=stack.environment, log=tmp_path / "second.log") as second_worker:
            received += [state async for state in states]
            assert await Client(stack, token).current_tenant() == "Globex"
            second_worker.terminate()
            assert second_worker.wait(30) == 0
    assert received[-1]["status"] == "COMPLETED", received[-1]
    assert step_of(received[-1], "set_tenant")["attempt"] == 2
    assert "RETRYING" in [step_of(state, "set_tenant")["status"] for state in received]


def test_each_domain_can_run_in_its_own_process_and_stops_cleanly(separate_stack: Stack, tmp_path: Path) -> None:
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


def test_worker_lists_missing_environment_variables(tmp_path: Path) -> None:
    with start_module("worker", "all", environment=plain_environment(), log=tmp_path / "log") as process:
        assert process.wait(60) == 2
    assert (tmp_path / "log").read_text() == (
        "The environment is not right: DATABASE_URL Field required; SERVICE_KEY Field required.\n"
    )
