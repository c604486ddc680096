"""A workflow of six empty activities on four task queues, and its worker: ``python -m tools.benchmarks.empty_switch``.

It is the baseline of a tenant switch: the same number of steps on the same number of queues, without any work.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from infrastructure.temporal.codec import KeyRing
from infrastructure.temporal.connection import connect, exit_process

QUEUE = "empty-switch"
STEP_QUEUES = ("empty-tenants", "empty-auth", "empty-users", "empty-auth", "empty-tenants", "empty-auth")
"""The queues of a switch's steps in their order: check_access, get_session, update_user_tenant, create_session,
load_tenant_data, replace_session."""


@activity.defn
async def empty_step(argument: str) -> str:
    return argument


@workflow.defn
class EmptySwitch:
    @workflow.run
    async def run(self, argument: str) -> str:
        for queue in STEP_QUEUES:
            argument = await workflow.execute_activity(
                empty_step, argument, task_queue=queue, start_to_close_timeout=timedelta(seconds=10)
            )
        return argument


async def work() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    keys = KeyRing.parse(os.environ["CODEC_KEYS"])
    client = await connect(address=os.environ["TEMPORAL_ADDRESS"], namespace=None, keys=keys)
    async with AsyncExitStack() as stack:
        for queue in sorted(set(STEP_QUEUES)):
            await stack.enter_async_context(Worker(client, task_queue=queue, activities=[empty_step]))
        runner = UnsandboxedWorkflowRunner()
        await stack.enter_async_context(
            Worker(client, task_queue=QUEUE, workflows=[EmptySwitch], workflow_runner=runner)
        )
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(work())
    exit_process(0)
