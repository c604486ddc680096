"""Workers stop together: what is under way has five seconds to end, in all domains at once."""

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
class Employ:
    """Has an activity work on a queue for so many seconds."""

    @workflow.run
    async def run(self, queue: str, seconds: float) -> None:
        await workflow.execute_activity(
            "labour", seconds, task_queue=queue, start_to_close_timeout=timedelta(seconds=100)
        )


async def test_what_is_under_way_has_five_seconds_to_end_in_all_domains_at_once(temporal_client: Client) -> None:
    begun, ended = 0, list[tuple[float, bool]]()
    all_have_begun = asyncio.Event()

    @activity.defn
    async def labour(seconds: float) -> None:
        nonlocal begun
        begun += 1
        if begun == 3:
            all_have_begun.set()
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            ended.append((seconds, False))
            raise
        ended.append((seconds, True))

    queues = {f"labour-{uuid4().hex}": seconds for seconds in (4.0, 60.0, 61.0)}
    domains = [Domain(queue, activities=(labour,)) for queue in queues]  # type: ignore[arg-type]
    employing = f"employ-{uuid4().hex}"
    async with Worker(
        temporal_client, task_queue=employing, workflows=[Employ], workflow_runner=UnsandboxedWorkflowRunner()
    ):
        async with running_workers(temporal_client, domains, LocalNotifier()):
            handles = [
                await temporal_client.start_workflow(
                    Employ.run, args=[queue, seconds], id=f"employ-{uuid4().hex}", task_queue=employing
                )
                for queue, seconds in queues.items()
            ]
            async with asyncio.timeout(20):
                await all_have_begun.wait()
            stopped_at = time.monotonic()
        took = time.monotonic() - stopped_at
        await handles[0].result()
        for handle in handles[1:]:
            await handle.terminate()

    assert sorted(ended) == [(4.0, True), (60.0, False), (61.0, False)]
    assert 4.9 < took < 9
