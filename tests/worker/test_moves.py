"""The workers of the product tell which operations moved, from within their sandbox."""

from __future__ import annotations

import asyncio
from uuid import uuid4

from temporalio.client import Client

from contracts.base import utc_now
from contracts.operations import MEMO_STATE, OperationKind, OperationState, operation_id
from contracts.tenants import SwitchTenantCommand
from infrastructure.change_notifications import LocalWakeups, woken
from worker.registry import Domain
from worker.workers import running_workers
from workflows.switch_tenant import SwitchTenant

COMMAND = SwitchTenantCommand(
    user_id="usr_a", from_tenant_id="ten_a", to_tenant_id="ten_b", session_id="ses_a", token_hash="0" * 64
)


async def test_each_move_of_an_operation_is_told_under_its_id(temporal_client: Client) -> None:
    wakeups = LocalWakeups()
    kind, queue = OperationKind.TENANT_SWITCH, f"moves-{uuid4().hex}"
    one, other = (operation_id(b"", kind, tenant_id="", user_id="", key=None) for _ in range(2))
    memo = {MEMO_STATE: OperationState.first(kind, utc_now(), started_by="usr_a").to_memo()}
    with wakeups.hearing(one) as news, wakeups.hearing(other) as others_news:
        async with running_workers(temporal_client, [Domain(queue, workflows=(SwitchTenant,))], wakeups):  # type: ignore[arg-type]
            handle = await temporal_client.start_workflow(
                SwitchTenant.run, COMMAND, id=one, task_queue=queue, memo=memo
            )
            assert await woken(news, 10), "its first step began"
            news.clear()
            async with asyncio.timeout(10):
                while (await handle.describe()).raw_info.history_length < 5:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            assert not news.is_set(), "nothing moved since"
            await handle.cancel()
            assert await woken(news, 10), "it ended"
    assert not others_news.is_set()
