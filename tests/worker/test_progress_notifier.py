"""Workers publish a change notification for each new state of an operation, also from sandboxed workflows."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from uuid import uuid4

from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from contracts.base import utc_now
from contracts.operations import MEMO_STATE, OperationKind, OperationState, operation_id
from contracts.tenants import SwitchTenantCommand
from infrastructure.change_notifications import LocalNotifier, wait_for_event
from tests.resolvers.scripted import ScriptedWorkflow
from worker.progress_notifier import ProgressNotifier
from worker.registry import Domain
from worker.workers import running_workers
from workflows.switch_tenant import SwitchTenant

COMMAND = SwitchTenantCommand(
    user_id="usr_a", from_tenant_id="ten_a", to_tenant_id="ten_b", session_id="ses_a", token_hash="0" * 64
)


async def test_each_change_of_an_operation_is_notified_under_its_id(temporal_client: Client) -> None:
    change_notifier = LocalNotifier()
    kind, queue = OperationKind.TENANT_SWITCH, f"notifier-{uuid4().hex}"
    one, other = (operation_id(b"", kind, tenant_id="", user_id="", key=None) for _ in range(2))
    memo = {MEMO_STATE: OperationState.first(kind, utc_now(), started_by="usr_a").to_memo()}
    with change_notifier.subscribe_to_topic(one) as followed, change_notifier.subscribe_to_topic(other) as others:
        changed = followed.changed
        async with running_workers(temporal_client, [Domain(queue, workflows=(SwitchTenant,))], change_notifier):  # type: ignore[arg-type]
            handle = await temporal_client.start_workflow(
                SwitchTenant.run, COMMAND, id=one, task_queue=queue, memo=memo
            )
            assert await wait_for_event(changed, 10), "its first step started"
            changed.clear()
            async with asyncio.timeout(10):
                while (await handle.describe()).raw_info.history_length < 5:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            assert not changed.is_set(), "the state did not change since"
            await handle.cancel()
            assert await wait_for_event(changed, 10), "it ended"
    assert not others.changed.is_set()


class SlowNotifier(LocalNotifier):
    """Records the notifications, and delays each one until the test allows it."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[str] = []
        self.is_sending, self.may_go_on = asyncio.Event(), asyncio.Event()

    async def notify_topics(self, topics: Collection[str]) -> None:
        self.sent += topics
        self.is_sending.set()
        await self.may_go_on.wait()


async def test_a_change_during_the_notification_of_another_is_notified() -> None:
    change_notifier = SlowNotifier()
    notifier = ProgressNotifier(change_notifier, lambda _info, _outcome: None, ())
    async with notifier.running(), asyncio.timeout(5):
        notifier.mark_changed("first")
        await change_notifier.is_sending.wait()
        notifier.mark_changed("second")
        await asyncio.sleep(0.1)
        assert change_notifier.sent == ["first"]
        change_notifier.may_go_on.set()
        while change_notifier.sent != ["first", "second"]:  # noqa: ASYNC110 - it sets no event
            await asyncio.sleep(0.01)


async def test_simultaneous_changes_of_one_operation_are_notified_once() -> None:
    change_notifier = SlowNotifier()
    change_notifier.may_go_on.set()
    notifier = ProgressNotifier(change_notifier, lambda _info, _outcome: None, ())
    async with notifier.running(), asyncio.timeout(5):
        for _ in range(5):
            notifier.mark_changed("one")
            notifier.mark_changed("other")
        await asyncio.sleep(0.3)
    assert change_notifier.sent == ["one", "other"]


async def test_a_replayed_workflow_is_notified_and_closed_once(temporal_client: Client) -> None:
    """Without a cache, each workflow task replays all earlier events."""
    change_notifier, closed = SlowNotifier(), list[str]()
    change_notifier.may_go_on.set()
    notifier = ProgressNotifier(change_notifier, lambda _info, outcome: closed.append(outcome), ())
    queue = f"notifier-{uuid4().hex}"
    id_ = operation_id(b"", OperationKind.TENANT_SWITCH, tenant_id="", user_id="", key=None)
    memo = {MEMO_STATE: OperationState.first(OperationKind.TENANT_SWITCH, utc_now(), started_by="usr_a").to_memo()}
    async with (
        notifier.running(),
        Worker(
            temporal_client,
            task_queue=queue,
            workflows=[ScriptedWorkflow],
            workflow_runner=UnsandboxedWorkflowRunner(),
            interceptors=[notifier],
            max_cached_workflows=0,
            max_concurrent_workflow_tasks=1,
        ),
    ):
        handle = await temporal_client.start_workflow("ScriptedWorkflow", id=id_, task_queue=queue, memo=memo)
        for order in ("move", "move", "end"):
            await handle.signal(ScriptedWorkflow.command, order)
            await asyncio.sleep(0.3)
        await handle.result()
        await asyncio.sleep(0.2)
    assert change_notifier.sent == [id_] * 3
    assert closed == ["completed"]
