"""Workflows of this release carry on what earlier ones began: every recorded history replays."""

from __future__ import annotations

from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer
from temporalio.workflow import NondeterminismError

from contracts.errors import DomainError
from contracts.operations import OperationKind, TenantSwitched
from contracts.tenants import SwitchTenantCommand
from worker.sandbox import workflow_runner
from workflows.operation import OperationRun

with workflow.unsafe.imports_passed_through():  # this module holds a workflow, which needs none of it
    from worker.registry import WORKFLOWS

HISTORIES = sorted(Path(__file__).parent.glob("*.json"))


def recorded(path: Path) -> WorkflowHistory:
    return WorkflowHistory.from_json("recorded", path.read_text())


def replayer(*workflows: type) -> Replayer:
    return Replayer(
        workflows=workflows,
        data_converter=pydantic_data_converter,
        workflow_runner=workflow_runner(),
        workflow_failure_exception_types=[DomainError],
    )


@workflow.defn(name="SwitchTenant")
class Reordered:
    """The same steps the other way round: what a careless change would do."""

    @workflow.run
    async def run(self, command: SwitchTenantCommand) -> TenantSwitched:
        async with OperationRun(OperationKind.TENANT_SWITCH) as operation, operation.step("end_old_session"):
            await workflow.sleep(1)
        raise AssertionError("unreachable")


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
async def test_replays(path: Path) -> None:
    await replayer(*WORKFLOWS).replay_workflow(recorded(path))


async def test_a_reordering_is_found_out() -> None:
    path = next(path for path in HISTORIES if path.stem == "switch_tenant.completed")
    with pytest.raises(NondeterminismError):
        await replayer(Reordered).replay_workflow(recorded(path))


def test_every_workflow_has_histories() -> None:
    names = {path.stem.partition(".")[0] for path in HISTORIES}
    assert names == {kind.__module__.rpartition(".")[2] for kind in WORKFLOWS}
