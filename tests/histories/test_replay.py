"""Every recorded history of this release and earlier releases replays with the workflows of this release."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from graphql import GraphQLEnumType, build_schema
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer
from temporalio.workflow import NondeterminismError

from contracts.errors import DomainError
from contracts.operations import OperationStatus, StepStatus
from tests.histories.recorded import Recording, recordings
from tests.histories.reordered_workflow import reordered
from tests.stack import ROOT
from tests.upgrades.next_release import Patched, Reordered
from worker.registry import WORKFLOWS
from worker.sandbox import workflow_runner
from workflows.onboard_user import OnboardUser
from workflows.process_file import ProcessFile
from workflows.repair_operation import RepairOperation
from workflows.switch_tenant import SwitchTenant
from workflows.upload_file import UploadFile

RECORDED = recordings()
RELEASES = sorted({recording.release for recording in RECORDED})
SWITCHES = [recording for recording in RECORDED if recording.workflow == "switch_tenant"]
COMPLETED = {recording.workflow: recording for recording in RECORDED if recording.course == "completed"}
WORKFLOW_CLASSES = (*WORKFLOWS, RepairOperation)
REORDERED_STEPS: list[tuple[type, str, str]] = [
    (SwitchTenant, "load_session", "set_tenant"),
    (SwitchTenant, "load_tenant", "end_old_session"),
    (UploadFile, "update_metadata", "set_permissions"),
    (ProcessFile, "verify_checksum", "extract_metadata"),
    (OnboardUser, "set_up_authentication", "assign_to_tenant"),
]
"""Pairs of steps that do not depend on each other, so that exchanging them looks harmless. A login has none."""


def name_of(workflow: type) -> str:
    return workflow.__module__.rpartition(".")[2]


def kinds_of(release: str) -> set[str]:
    """Return the kinds of operations in the schema of the release."""
    schema = build_schema((ROOT / "tests" / "schema" / "released" / f"{release}.graphql").read_text())
    kinds = schema.type_map["OperationKind"]
    assert isinstance(kinds, GraphQLEnumType)
    return set(kinds.values)


async def replay(recording: Recording, *workflows: type) -> None:
    """Replay the history. Raises NondeterminismError if the workflows issue other commands than the recorded ones."""
    replayer = Replayer(
        workflows=workflows,
        data_converter=pydantic_data_converter,
        workflow_runner=workflow_runner(),
        workflow_failure_exception_types=[DomainError],
    )
    await replayer.replay_workflow(recording.history())


@pytest.mark.parametrize("recording", RECORDED, ids=str)
async def test_recorded_history_replays(recording: Recording) -> None:
    await replay(recording, *WORKFLOW_CLASSES)


@pytest.mark.parametrize(("workflow", "first", "second"), REORDERED_STEPS)
async def test_reordered_steps_fail_to_replay(
    workflow: type, first: str, second: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(NondeterminismError):
        await replay(COMPLETED[name_of(workflow)], reordered(workflow, tmp_path, first, second))


async def test_unchanged_order_replays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    await replay(COMPLETED["switch_tenant"], reordered(SwitchTenant, tmp_path, "set_tenant", "set_tenant"))


@pytest.mark.parametrize("recording", SWITCHES, ids=str)
async def test_patched_reordering_replays(recording: Recording) -> None:
    await replay(recording, Patched)
    if recording.course == "completed":
        with pytest.raises(NondeterminismError):
            await replay(recording, Reordered)


def test_histories_exist_for_this_version_and_every_released_schema() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    schemas = {path.stem for path in (ROOT / "tests" / "schema" / "released").glob("*.graphql")}
    assert version in RELEASES, "python -m tests.histories.record"
    assert schemas == set(RELEASES)


@pytest.mark.parametrize("release", RELEASES)
async def test_histories_cover_completion_cancellation_and_failure_of_each_step(release: str) -> None:
    """The kinds are those of the release's schema, and the steps those of its recorded operations."""
    of_release = [recording for recording in RECORDED if recording.release == release]
    kinds = set()
    for name in {recording.workflow for recording in of_release} - {name_of(RepairOperation)}:
        states = {recording.course: await recording.states() for recording in of_release if recording.workflow == name}
        last = states["completed"][-1]
        assert last.result is not None
        kinds.add(last.result.kind)
        assert {"completed", "cancelled", *(f"failed_at_{step.name}" for step in last.steps)} <= states.keys(), name
        assert states["cancelled"][-1].status is OperationStatus.CANCELLED
        for index, step in enumerate(last.steps):
            assert states[f"failed_at_{step.name}"][-1].steps[index].status is StepStatus.FAILED
    assert kinds_of(release) <= kinds


def test_every_recorded_workflow_still_exists() -> None:
    assert {recording.workflow for recording in RECORDED} <= {name_of(workflow) for workflow in WORKFLOW_CLASSES}
