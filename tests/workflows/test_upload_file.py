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
from tests.workflows.file_saga_harness import FilesStage, files_staged
from tests.workflows.saga_harness import ANSWER, Script, assert_undone_in_spite_of_a_cancellation, cancelling_an_undo
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
    "create_file_record": "delete_file_record",
    "store_file": "remove_from_storage",
    "update_metadata": "restore_file_metadata",
    "set_permissions": "restore_file_permissions",
}


class Scene(NamedTuple):
    stage: FilesStage
    command: UploadFileCommand

    async def play(self) -> OperationState:
        return await self.stage.play(UploadFile.run, self.command, KIND)

    async def start(self) -> WorkflowHandle[Any, Any]:
        return await self.stage.start(UploadFile.run, self.command, KIND)

    async def things(self) -> tuple[list[object], set[Path]]:
        return await rows(), objects(self.stage.folder)


@asynccontextmanager
async def scene(environment: WorkflowEnvironment, folder: Path, script: Script) -> AsyncIterator[Scene]:
    """The bytes of an upload have arrived."""
    async with files_staged(environment.client, folder, script) as stage:
        command = await stage.desk.send(SENDER, TEXT, name="words.txt", access_level=AccessLevel.TENANT)
        yield Scene(stage, command)


def expected_undos(failing: str) -> list[str]:
    begun = STEPS[KIND][: STEPS[KIND].index(failing) + 1]
    return [UNDO_OF[step] for step in reversed(begun) if step in UNDO_OF]


def undos_in(ran: list[str]) -> list[str]:
    return [name for name in ran if name in UNDO_OF.values()]


async def test_makes_a_file_of_staged_bytes(time_skipping: WorkflowEnvironment, tmp_path: Path) -> None:
    async with scene(time_skipping, tmp_path, Script()) as playing:
        state = await playing.play()
        assert isinstance(state.result, FileUploaded)
        [file] = await playing.stage.desk.files.get_files(SENDER, [state.result.file_id])

    assert state.status is OperationStatus.COMPLETED
    assert [step.status for step in state.steps] == [StepStatus.COMPLETED] * 5
    assert (file.name, file.size, file.access_level) == ("words.txt", len(TEXT), AccessLevel.TENANT)
    assert playing.stage.script.ran == list(ACTIVITY_OF.values())


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS[KIND])
async def test_a_failure_at_any_step_leaves_everything_as_it_was(
    time_skipping: WorkflowEnvironment, tmp_path: Path, step: str, when: str
) -> None:
    script = Script(**{when: {ACTIVITY_OF[step]: ANSWER}})  # type: ignore[arg-type]
    async with scene(time_skipping, tmp_path, script) as playing:
        before = await playing.things()
        state = await playing.play()
        assert await playing.things() == before
        script.before.clear()
        script.after.clear()
        assert (await playing.play()).status is OperationStatus.COMPLETED, "the upload can be completed again"

    assert state.status is OperationStatus.FAILED
    assert state.failure is not None
    assert (state.failure.step, state.failure.compensated) == (step, True)
    assert undos_in(script.ran) == expected_undos(step)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS[KIND])
async def test_a_cancellation_at_any_step_leaves_everything_as_it_was(
    time_skipping: WorkflowEnvironment, tmp_path: Path, step: str, when: str
) -> None:
    script = Script(**{f"cancel_{when}": ACTIVITY_OF[step]})  # type: ignore[arg-type]
    async with scene(time_skipping, tmp_path, script) as playing:
        before = await playing.things()
        state = await playing.play()
        assert await playing.things() == before

    assert state.status is OperationStatus.CANCELLED
    assert state.failure is not None
    assert (state.failure.code, state.failure.compensated) == (OperationErrorCode.CANCELLED, True)
    assert undos_in(script.ran) == expected_undos(step)


async def test_trouble_with_the_storage_is_tried_again(time_skipping: WorkflowEnvironment, tmp_path: Path) -> None:
    script = Script(
        before={"validate_file_upload": ConnectionError("refused")},
        after={"upload_to_storage": ConnectionError("reset")},
        times={"validate_file_upload": 1, "upload_to_storage": 1},
    )
    async with scene(time_skipping, tmp_path, script) as playing:
        state = await playing.play()
    assert state.status is OperationStatus.COMPLETED
    assert script.ran.count("upload_to_storage") == 2


async def test_bytes_that_are_not_what_was_announced_fail_the_upload_in_words_for_the_user(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    async with scene(time_skipping, tmp_path, Script()) as playing:
        await playing.stage.desk.stage(playing.command, TEXT.upper())
        before = await rows()
        state = await playing.play()
        assert await rows() == before
        assert objects(playing.stage.folder) == set()

    assert state.failure is not None
    assert (state.failure.code, state.failure.step) == (OperationErrorCode.VALIDATION_FAILED, "validate_upload")
    assert "checksum" in state.failure.message
    assert state.failure.user_recoverable


async def test_a_second_completion_of_an_upload_makes_no_second_file(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    async with scene(time_skipping, tmp_path, Script()) as playing:
        assert (await playing.play()).status is OperationStatus.COMPLETED
        before = await playing.things()
        state = await playing.play()
        assert await playing.things() == before
    assert state.status is OperationStatus.FAILED
    assert state.failure is not None
    assert state.failure.code is OperationErrorCode.VALIDATION_FAILED


@pytest.mark.parametrize("undo", list(UNDO_OF.values()))
async def test_a_cancellation_while_a_failed_upload_is_undone_stops_no_undo(
    time_skipping: WorkflowEnvironment, tmp_path: Path, undo: str
) -> None:
    script = cancelling_an_undo("set_file_permissions", undo)
    async with scene(time_skipping, tmp_path, script) as playing:
        before = await playing.things()
        state = await playing.play()
        assert await playing.things() == before

    assert_undone_in_spite_of_a_cancellation(script, state, expected_undos("set_permissions"))
