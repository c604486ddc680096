"""All workers of a process stop at the same time and give running activities five seconds to finish."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from uuid import uuid4

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from infrastructure.change_notifications import LocalNotifier
from worker.registry import Domain
from worker.workers import running_workers


@workflow.defn
class RunActivity:
    """Runs an activity of a given duration on a queue."""

    @workflow.run
    async def run(self, queue: str, seconds: float) -> None:
        await workflow.execute_activity(
            "wait", seconds, task_queue=queue, start_to_close_timeout=timedelta(seconds=100)
        )


async def test_running_activities_of_all_domains_have_five_seconds_to_finish(temporal_client: Client) -> None:
    started, ended = 0, list[tuple[float, bool]]()
    all_started = asyncio.Event()

    @activity.defn
    async def wait(seconds: float) -> None:
        nonlocal started
        started += 1
        if started == 3:
            all_started.set()
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            ended.append((seconds, False))
            raise
        ended.append((seconds, True))

    queues = {f"wait-{uuid4().hex}": seconds for seconds in (4.0, 60.0, 61.0)}
    domains = [Domain(queue, activities=(wait,)) for queue in queues]  # type: ignore[arg-type]
    workflow_queue = f"run-{uuid4().hex}"
    async with Worker(
        temporal_client, task_queue=workflow_queue, workflows=[RunActivity], workflow_runner=UnsandboxedWorkflowRunner()
    ):
        async with running_workers(temporal_client, domains, LocalNotifier()):
            handles = [
                await temporal_client.start_workflow(
                    RunActivity.run, args=[queue, seconds], id=f"run-{uuid4().hex}", task_queue=workflow_queue
                )
                for queue, seconds in queues.items()
            ]
            async with asyncio.timeout(20):
                await all_started.wait()
            stopped_at = time.monotonic()
        took = time.monotonic() - stopped_at
        await handles[0].result()
        for handle in handles[1:]:
            await handle.terminate()

    assert sorted(ended) == [(4.0, True), (60.0, False), (61.0, False)]
    assert 4.9 < took < 9
