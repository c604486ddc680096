"""A chore of a worker that fails is logged and begun again, and so is one that returns."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from structlog.testing import capture_logs
from temporalio.client import Client

from infrastructure.change_notifications import LocalNotifier
from worker.registry import Domain
from worker.workers import running_workers


@pytest.mark.parametrize("raises", [True, False])
async def test_a_chore_that_ends_is_logged_and_begun_again(temporal_client: Client, raises: bool) -> None:
    runs, is_again = 0, asyncio.Event()

    async def clean_up_regularly() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            if raises:
                raise ArithmeticError("unexpected")
            return
        is_again.set()
        await asyncio.Event().wait()

    domain = Domain(f"chores-{uuid4().hex}", chores=(clean_up_regularly,))  # type: ignore[arg-type]
    with capture_logs() as logs:
        async with running_workers(temporal_client, [domain], LocalNotifier()), asyncio.timeout(10):
            await is_again.wait()
    failures = [log for log in logs if log["event"] == "background_task_failed"]
    assert [(log["log_level"], "clean_up_regularly" in log["task"]) for log in failures] == [("error", True)]
