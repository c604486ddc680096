"""Records the histories that every later release must still be able to replay.

``python -m tests.histories.record [WORKFLOW...]``: those of these workflows (``switch_tenant``), or of all, into the
folder of the version that pyproject.toml names. What is recorded stays: the old histories are the ones that matter.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from aiosmtplib import SMTPServerDisconnected
from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from contracts.repairs import EndedOperation, repair_id
from contracts.temporal import TaskQueue, leave
from tests.stack import ROOT
from tests.workflows import onboarding, test_log_in, test_process_file, test_switch_tenant, test_upload_file
from tests.workflows.files_stage import end_of
from tests.workflows.staging import ANSWER, Script
from worker.dev.binaries import temporal_test_server
from workflows.mfa import PATIENCE, TRIES
from workflows.process_file import ProcessFile
from workflows.repair_operation import RepairOperation
from workflows.upload_file import UploadFile

VERSION: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
FOLDER = Path(__file__).parent / VERSION


@asynccontextmanager
async def environment() -> AsyncIterator[WorkflowEnvironment]:
    async with await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=str(temporal_test_server()), data_converter=pydantic_data_converter
    ) as started:
        yield started


async def save(name: str, handle: WorkflowHandle[Any, Any]) -> None:
    path = FOLDER / f"{name}.json"
    if path.exists():
        return
    history = json.loads((await handle.fetch_history()).to_json(), object_hook=_without_the_machine)
    FOLDER.mkdir(exist_ok=True)
    path.write_text(json.dumps(history, separators=(",", ":")) + "\n")
    print(path.relative_to(ROOT))  # noqa: T201 - for who records


def _without_the_machine(part: dict[str, Any]) -> dict[str, Any]:
    """Stack traces and worker identities tell where it was recorded, and no replay reads them."""
    return {key: value for key, value in part.items() if key not in ("stackTrace", "identity", "binaryChecksum")}


async def record_switches() -> None:
    steps = test_switch_tenant.ACTIVITY_OF
    scripts = {"completed": Script(), "cancelled": Script(cancel_after="create_session")}
    scripts |= {f"failed_at_{step}": Script(after={name: ANSWER}) for step, name in steps.items()}
    scripts["tried_again"] = Script(before={"load_tenant_data": ConnectionError()}, times={"load_tenant_data": 1})
    for name, script in scripts.items():
        async with (
            environment() as started,
            test_switch_tenant.scene(started, Path(tempfile.mkdtemp()), script) as playing,
        ):
            handle = await playing.start()
            await playing.stage.end_of(handle)
            await save(f"switch_tenant.{name}", handle)


async def record_logins() -> None:
    scripts = {"completed": Script(), "cancelled": Script(cancel_after="create_session")}
    scripts |= {f"failed_at_{step}": Script(after={step: ANSWER}) for step in test_log_in.ACTIVITY_OF}
    for name, script in scripts.items():
        async with environment() as started, test_log_in.scene(started, Path(tempfile.mkdtemp()), script) as playing:
            handle = await playing.start()
            await playing.stage.end_of(handle)
            await save(f"log_in.{name}", handle)
    for name, befall in SECOND_FACTORS.items():
        async with (
            environment() as started,
            test_log_in.scene(started, Path(tempfile.mkdtemp()), Script(), account="alan") as playing,
        ):
            handle = await playing.start()
            await test_log_in.waiting(handle)
            await befall(started, handle)
            await playing.stage.end_of(handle)
            await save(f"log_in.{name}", handle)


async def _right_at_the_second_try(_: WorkflowEnvironment, handle: WorkflowHandle[Any, Any]) -> None:
    await test_log_in.submit(handle, test_log_in.wrong_code())
    await test_log_in.submit(handle, test_log_in.right_code())


async def _always_wrong(_: WorkflowEnvironment, handle: WorkflowHandle[Any, Any]) -> None:
    for _try in range(TRIES):
        await test_log_in.submit(handle, test_log_in.wrong_code())


async def _cancelled(_: WorkflowEnvironment, handle: WorkflowHandle[Any, Any]) -> None:
    await handle.cancel()


async def _too_late(started: WorkflowEnvironment, _: WorkflowHandle[Any, Any]) -> None:
    await started.sleep(PATIENCE + timedelta(seconds=1))


SECOND_FACTORS: Mapping[str, Callable[[WorkflowEnvironment, WorkflowHandle[Any, Any]], Awaitable[None]]] = {
    "with_mfa": _right_at_the_second_try,
    "failed_at_check_mfa": _always_wrong,
    "cancelled_at_check_mfa": _cancelled,
    "timed_out_at_check_mfa": _too_late,
}


async def record_onboardings() -> None:
    steps = onboarding.ACTIVITY_OF
    scripts = {"completed": Script(), "cancelled": Script(cancel_after="create_user_workspace")}
    scripts |= {f"failed_at_{step}": Script(after={name: ANSWER}) for step, name in steps.items()}
    scripts["without_letter"] = Script(before={"send_welcome_email": SMTPServerDisconnected("")})
    scripts["cancelled_at_letter"] = Script(cancel_after="send_welcome_email")
    for name, script in scripts.items():
        async with (
            environment() as started,
            onboarding.scene(started, Path(tempfile.mkdtemp()), script) as playing,
        ):
            handle = await playing.start()
            await playing.stage.end_of(handle)
            await save(f"onboard_user.{name}", handle)


async def record_uploads() -> None:
    steps = test_upload_file.ACTIVITY_OF
    scripts = {"completed": Script(), "cancelled": Script(cancel_after="create_file_record")}
    scripts |= {f"failed_at_{step}": Script(after={name: ANSWER}) for step, name in steps.items()}
    scripts["tried_again"] = Script(
        before={"update_file_metadata": ConnectionError()}, times={"update_file_metadata": 1}
    )
    for name, script in scripts.items():
        async with (
            environment() as started,
            test_upload_file.scene(started, Path(tempfile.mkdtemp()), script) as playing,
        ):
            handle = await playing.stage.start(UploadFile.run, playing.command, test_upload_file.KIND)
            await end_of(handle)
            await save(f"upload_file.{name}", handle)


async def record_processings() -> None:
    steps = test_process_file.ACTIVITY_OF
    scripts = {"completed": Script(), "cancelled": Script(cancel_after="extract_metadata")}
    scripts |= {f"failed_at_{step}": Script(after={name: ANSWER}) for step, name in steps.items()}
    for name, script in scripts.items():
        async with (
            environment() as started,
            test_process_file.scene(started, Path(tempfile.mkdtemp()), script) as playing,
        ):
            handle = await playing.stage.start(ProcessFile.run, playing.command, test_process_file.KIND)
            await end_of(handle)
            await save(f"process_file.{name}", handle)


async def record_repairs() -> None:
    """Of a switch that completed: of any other end less is left to take back."""
    for name, script in {"completed": Script(), "failed": Script(before={"restore_user_tenant": ANSWER})}.items():
        async with (
            environment() as started,
            test_switch_tenant.scene(started, Path(tempfile.mkdtemp()), script) as playing,
        ):
            switch = await playing.start()
            await playing.stage.end_of(switch)
            ended = EndedOperation(operation_id=switch.id, run_id=switch.result_run_id or "")
            repair = await started.client.start_workflow(
                RepairOperation.run, ended, id=repair_id(switch.id), task_queue=TaskQueue.OPERATIONS
            )
            with suppress(WorkflowFailureError):
                await repair.result()
            await save(f"repair_operation.{name}", repair)


RECORDINGS: Mapping[str, Callable[[], Awaitable[None]]] = {
    "switch_tenant": record_switches,
    "log_in": record_logins,
    "onboard_user": record_onboardings,
    "upload_file": record_uploads,
    "process_file": record_processings,
    "repair_operation": record_repairs,
}


async def main(workflows: Sequence[str]) -> None:
    for name in workflows or RECORDINGS:
        await RECORDINGS[name]()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
    leave(0)
