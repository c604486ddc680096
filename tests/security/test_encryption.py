"""Payloads of running activities are encrypted: heartbeats and the failure of the last attempt."""

from __future__ import annotations

import asyncio
import base64
from datetime import timedelta
from uuid import uuid4

from temporalio import activity, workflow
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.client import Client
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from infrastructure.temporal.codec import KeyRing
from infrastructure.temporal.connection import connect
from tests.security.canaries import find_canaries, new_canary
from tests.security.messages import messages_in

KEYS = KeyRing.parse(f"one:{base64.b64encode(b'k' * 32).decode()}")


@activity.defn
async def fail_then_heartbeat(secret: str) -> str:
    """Fail in the first attempt; send a heartbeat in the second and run until cancelled."""
    if activity.info().attempt == 1:
        raise ApplicationError(secret, secret)
    activity.heartbeat(secret)
    await asyncio.sleep(3600)
    return secret


@workflow.defn
class FailThenHeartbeat:
    """Executes the activity whose first attempt fails."""

    @workflow.run
    async def run(self, secret: str) -> str:
        return await workflow.execute_activity(
            fail_then_heartbeat,
            secret,
            start_to_close_timeout=timedelta(hours=1),
            heartbeat_timeout=timedelta(seconds=30),
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=10)),
        )


async def test_heartbeats_and_the_failure_of_an_attempt_are_encrypted(temporal_address: str) -> None:
    canary, queue = {"secret": new_canary("heartbeat")}, uuid4().hex
    client = await connect(address=temporal_address, namespace=None, keys=KEYS)
    async with Worker(
        client,
        task_queue=queue,
        workflows=[FailThenHeartbeat],
        activities=[fail_then_heartbeat],
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_heartbeat_throttle_interval=timedelta(milliseconds=100),
    ):
        handle = await client.start_workflow(FailThenHeartbeat.run, canary["secret"], id=uuid4().hex, task_queue=queue)
        raw = (await Client.connect(temporal_address)).get_workflow_handle(handle.id)
        async with asyncio.timeout(30):
            while True:
                description = (await raw.describe()).raw_description
                pending = list(description.pending_activities)
                if pending and pending[0].heartbeat_details.payloads and pending[0].HasField("last_failure"):
                    break
                await asyncio.sleep(0.1)
        await handle.terminate()
    messages = list(messages_in(description))
    payloads = [message for message in messages if isinstance(message, Payload)]
    failures = [message for message in messages if isinstance(message, Failure)]
    assert {payload.metadata["encoding"] for payload in payloads} == {b"binary/encrypted"}
    assert [failure.message for failure in failures] == ["Encoded failure"]
    assert find_canaries(canary, [description.SerializeToString()]) == set()
    plain = await client.data_converter.decode(pending[0].heartbeat_details.payloads)
    assert plain == [canary["secret"]]
