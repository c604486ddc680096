"""Workflows of this release carry on what earlier ones began: every recorded history replays."""

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
from tests.histories.reordered_workflow import altered
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
COMPLETED = {recording.workflow: recording for recording in RECORDED if recording.what == "completed"}
SERVED = (*WORKFLOWS, RepairOperation)
CHANGED_ROUND: list[tuple[type, str, str]] = [
    (SwitchTenant, "note_session", "set_tenant"),
    (SwitchTenant, "load_tenant", "end_old_session"),
    (UploadFile, "update_metadata", "set_permissions"),
    (ProcessFile, "verify_checksum", "extract_metadata"),
    (OnboardUser, "set_up_authentication", "assign_to_tenant"),
]
"""Steps that do not need each other, so that a change of their order looks harmless. A login has none."""


def name_of(workflow: type) -> str:
    return workflow.__module__.rpartition(".")[2]


def kinds_of(release: str) -> set[str]:
    """The kinds of operation that the release served."""
    schema = build_schema((ROOT / "tests" / "schema" / "released" / f"{release}.graphql").read_text())
    kinds = schema.type_map["OperationKind"]
    assert isinstance(kinds, GraphQLEnumType)
    return set(kinds.values)


async def replay(recording: Recording, *workflows: type) -> None:
    """Raises NondeterminismError where the workflows would not do again what is recorded."""
    replayer = Replayer(
        workflows=workflows,
        data_converter=pydantic_data_converter,
        workflow_runner=workflow_runner(),
        workflow_failure_exception_types=[DomainError],
    )
    await replayer.replay_workflow(recording.history())


@pytest.mark.parametrize("recording", RECORDED, ids=str)
async def test_replays(recording: Recording) -> None:
    await replay(recording, *SERVED)


@pytest.mark.parametrize(("workflow", "first", "second"), CHANGED_ROUND)
async def test_steps_that_are_changed_round_are_found_out(
    workflow: type, first: str, second: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(NondeterminismError):
        await replay(COMPLETED[name_of(workflow)], altered(workflow, tmp_path, first, second))


async def test_steps_that_stay_where_they_are_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    await replay(COMPLETED["switch_tenant"], altered(SwitchTenant, tmp_path, "set_tenant", "set_tenant"))


@pytest.mark.parametrize("recording", SWITCHES, ids=str)
async def test_behind_a_patch_steps_may_be_changed_round(recording: Recording) -> None:
    await replay(recording, Patched)
    if recording.what == "completed":
        with pytest.raises(NondeterminismError):
            await replay(recording, Reordered)


def test_the_version_of_this_project_is_recorded_and_so_is_every_release_whose_schema_is_kept() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    schemas = {path.stem for path in (ROOT / "tests" / "schema" / "released").glob("*.graphql")}
    assert version in RELEASES, "python -m tests.histories.record"
    assert schemas == set(RELEASES)


@pytest.mark.parametrize("release", RELEASES)
async def test_each_kind_is_recorded_as_it_completes_is_cancelled_and_fails_at_each_step(release: str) -> None:
    """Of what the release itself knew: its schema names its kinds, and its operations their steps."""
    of_release = [recording for recording in RECORDED if recording.release == release]
    kinds = set()
    for name in {recording.workflow for recording in of_release} - {name_of(RepairOperation)}:
        what = {recording.what: await recording.states() for recording in of_release if recording.workflow == name}
        last = what["completed"][-1]
        assert last.result is not None
        kinds.add(last.result.kind)
        assert {"completed", "cancelled", *(f"failed_at_{step.name}" for step in last.steps)} <= what.keys(), name
        assert what["cancelled"][-1].status is OperationStatus.CANCELLED
        for place, step in enumerate(last.steps):
            assert what[f"failed_at_{step.name}"][-1].steps[place].status is StepStatus.FAILED
    assert kinds_of(release) <= kinds


def test_no_workflow_is_gone_that_may_still_run() -> None:
    assert {recording.workflow for recording in RECORDED} <= {name_of(workflow) for workflow in SERVED}
