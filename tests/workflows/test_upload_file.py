"""Uploading a file: what it does, and that whatever befalls it leaves database and storage as they were."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from temporalio.client import WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from contracts.errors import OperationErrorCode
from contracts.files import AccessLevel, UploadFileCommand
from contracts.operations import (
    STEPS,
    FileUploaded,
    OperationKind,
    OperationState,
    OperationStatus,
    StepStatus,
)
from tests.activities.files.file_fixtures import caller, objects, rows
from tests.workflows.file_saga_harness import FileSagaHarness, open_file_saga_harness
from tests.workflows.saga_harness import (
    FINAL_ERROR,
    FaultPlan,
    assert_compensated_despite_cancellation,
    cancel_during_undo,
)
from workflows.upload_file import UploadFile

KIND = OperationKind.FILE_UPLOAD
TEXT = b"some words\n"
SENDER = caller()
ACTIVITY_OF = {
    "validate_upload": "validate_file_upload",
    "create_file_record": "create_file_record",
    "store_file": "upload_to_storage",
    "update_metadata": "update_file_metadata",
    "set_permissions": "set_file_permissions",
}
UNDO_OF = {
    "create_file_record": "undo_create_file_record",
    "store_file": "undo_upload_to_storage",
    "update_metadata": "undo_update_file_metadata",
    "set_permissions": "undo_set_file_permissions",
}


class Scenario(NamedTuple):
    harness: FileSagaHarness
    command: UploadFileCommand

    async def run(self) -> OperationState:
        return await self.harness.run(UploadFile.run, self.command, KIND)

    async def start(self) -> WorkflowHandle[Any, Any]:
        return await self.harness.start(UploadFile.run, self.command, KIND)

    async def snapshot(self) -> tuple[list[object], set[Path]]:
        return await rows(), objects(self.harness.folder)


@asynccontextmanager
async def open_scenario(
    environment: WorkflowEnvironment, folder: Path, fault_plan: FaultPlan
) -> AsyncIterator[Scenario]:
    """The bytes of an upload have arrived."""
    async with open_file_saga_harness(environment.client, folder, fault_plan) as harness:
        command = await harness.services.upload(SENDER, TEXT, name="words.txt", access_level=AccessLevel.TENANT)
        yield Scenario(harness, command)


def expected_undos(failing: str) -> list[str]:
    begun = STEPS[KIND][: STEPS[KIND].index(failing) + 1]
    return [UNDO_OF[step] for step in reversed(begun) if step in UNDO_OF]


def undos_in(attempted: list[str]) -> list[str]:
    return [name for name in attempted if name in UNDO_OF.values()]


async def test_creates_file_from_staged_bytes(time_skipping: WorkflowEnvironment, tmp_path: Path) -> None:
    async with open_scenario(time_skipping, tmp_path, FaultPlan()) as scenario:
        state = await scenario.run()
        assert isinstance(state.result, FileUploaded)
        [file] = await scenario.harness.services.files.get_files(SENDER, [state.result.file_id])

    assert state.status is OperationStatus.COMPLETED
    assert [step.status for step in state.steps] == [StepStatus.COMPLETED] * 5
    assert (file.name, file.size, file.access_level) == ("words.txt", len(TEXT), AccessLevel.TENANT)
    assert scenario.harness.fault_plan.attempted == list(ACTIVITY_OF.values())


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS[KIND])
async def test_failure_at_any_step_leaves_no_changes(
    time_skipping: WorkflowEnvironment, tmp_path: Path, step: str, when: str
) -> None:
    fault_plan = FaultPlan(**{when: {ACTIVITY_OF[step]: FINAL_ERROR}})  # type: ignore[arg-type]
    async with open_scenario(time_skipping, tmp_path, fault_plan) as scenario:
        before = await scenario.snapshot()
        state = await scenario.run()
        assert await scenario.snapshot() == before
        fault_plan.before.clear()
        fault_plan.after.clear()
        assert (await scenario.run()).status is OperationStatus.COMPLETED, "the upload can be completed again"

    assert state.status is OperationStatus.FAILED
    assert state.failure is not None
    assert (state.failure.step, state.failure.compensated) == (step, True)
    assert undos_in(fault_plan.attempted) == expected_undos(step)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS[KIND])
async def test_cancellation_at_any_step_leaves_no_changes(
    time_skipping: WorkflowEnvironment, tmp_path: Path, step: str, when: str
) -> None:
    fault_plan = FaultPlan(**{f"cancel_{when}": ACTIVITY_OF[step]})  # type: ignore[arg-type]
    async with open_scenario(time_skipping, tmp_path, fault_plan) as scenario:
        before = await scenario.snapshot()
        state = await scenario.run()
        assert await scenario.snapshot() == before

    assert state.status is OperationStatus.CANCELLED
    assert state.failure is not None
    assert (state.failure.code, state.failure.compensated) == (OperationErrorCode.CANCELLED, True)
    assert undos_in(fault_plan.attempted) == expected_undos(step)


async def test_retries_after_storage_faults(time_skipping: WorkflowEnvironment, tmp_path: Path) -> None:
    fault_plan = FaultPlan(
        before={"validate_file_upload": ConnectionError("refused")},
        after={"upload_to_storage": ConnectionError("reset")},
        max_faults={"validate_file_upload": 1, "upload_to_storage": 1},
    )
    async with open_scenario(time_skipping, tmp_path, fault_plan) as scenario:
        state = await scenario.run()
    assert state.status is OperationStatus.COMPLETED
    assert fault_plan.attempted.count("upload_to_storage") == 2


async def test_bytes_that_differ_from_the_announcement_fail_the_upload(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    async with open_scenario(time_skipping, tmp_path, FaultPlan()) as scenario:
        await scenario.harness.services.store_staged_bytes(scenario.command, TEXT.upper())
        before = await rows()
        state = await scenario.run()
        assert await rows() == before
        assert objects(scenario.harness.folder) == set()

    assert state.failure is not None
    assert (state.failure.code, state.failure.step) == (OperationErrorCode.VALIDATION_FAILED, "validate_upload")
    assert "checksum" in state.failure.message
    assert state.failure.user_recoverable


async def test_second_completion_of_an_upload_creates_no_file(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    async with open_scenario(time_skipping, tmp_path, FaultPlan()) as scenario:
        assert (await scenario.run()).status is OperationStatus.COMPLETED
        before = await scenario.snapshot()
        state = await scenario.run()
        assert await scenario.snapshot() == before
    assert state.status is OperationStatus.FAILED
    assert state.failure is not None
    assert state.failure.code is OperationErrorCode.VALIDATION_FAILED


@pytest.mark.parametrize("undo", list(UNDO_OF.values()))
async def test_cancellation_during_compensation_stops_no_undo(
    time_skipping: WorkflowEnvironment, tmp_path: Path, undo: str
) -> None:
    fault_plan = cancel_during_undo("set_file_permissions", undo)
    async with open_scenario(time_skipping, tmp_path, fault_plan) as scenario:
        before = await scenario.snapshot()
        state = await scenario.run()
        assert await scenario.snapshot() == before

    assert_compensated_despite_cancellation(fault_plan, state, expected_undos("set_permissions"))
