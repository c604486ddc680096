"""A background task of a worker that fails or returns is logged and restarted."""

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
async def test_a_background_task_that_ends_is_logged_and_restarted(temporal_client: Client, raises: bool) -> None:
    runs, is_restarted = 0, asyncio.Event()

    async def clean_up_regularly() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            if raises:
                raise ArithmeticError("unexpected")
            return
        is_restarted.set()
        await asyncio.Event().wait()

    domain = Domain(f"tasks-{uuid4().hex}", background_tasks=(clean_up_regularly,))  # type: ignore[arg-type]
    with capture_logs() as logs:
        async with running_workers(temporal_client, [domain], LocalNotifier()), asyncio.timeout(10):
            await is_restarted.wait()
    failures = [log for log in logs if log["event"] == "background_task_failed"]
    assert [(log["log_level"], "clean_up_regularly" in log["task"]) for log in failures] == [("error", True)]
