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
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

from aiosmtplib import SMTPServerDisconnected
from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from contracts.compensation_repair import EndedOperation, repair_id
from contracts.task_queues import TaskQueue
from infrastructure.temporal.connection import exit_process
from tests.stack import ROOT
from tests.workflows import onboarding, test_log_in, test_process_file, test_switch_tenant, test_upload_file
from tests.workflows.file_saga_harness import end_of
from tests.workflows.saga_harness import ANSWER, Script
from worker.dev.binaries import temporal_test_server
from workflows.mfa import PATIENCE, TRIES
from workflows.repair_operation import RepairOperation

VERSION: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
FOLDER = Path(__file__).parent / VERSION


@asynccontextmanager
async def ground() -> AsyncIterator[tuple[WorkflowEnvironment, Path]]:
    """A fresh server and an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        async with await WorkflowEnvironment.start_time_skipping(
            test_server_existing_path=str(temporal_test_server()), data_converter=pydantic_data_converter
        ) as started:
            yield started, Path(folder)


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


@dataclass(frozen=True)
class Scripts:
    """A workflow's module of tests, whose ``scene`` is played: to its end, failing at each step of ``ACTIVITY_OF``,
    cancelled once the named activity has acted, and as others would have it."""

    tests: ModuleType
    cancelled_after: str
    others: Mapping[str, Script] = field(default_factory=dict)

    async def record(self, workflow: str) -> None:
        scripts = {"completed": Script(), "cancelled": Script(cancel_after=self.cancelled_after), **self.others}
        for step, activity in self.tests.ACTIVITY_OF.items():
            scripts[f"failed_at_{step}"] = Script(after={activity: ANSWER})
        for name, script in scripts.items():
            async with ground() as (server, folder), self.tests.scene(server, folder, script) as playing:
                handle = await playing.start()
                await end_of(handle)
                await save(f"{workflow}.{name}", handle)


def tried_again(activity: str) -> Script:
    return Script(before={activity: ConnectionError()}, times={activity: 1})


SCRIPTS = {
    "switch_tenant": Scripts(test_switch_tenant, "create_session", {"tried_again": tried_again("load_tenant_data")}),
    "log_in": Scripts(test_log_in, "create_session"),
    "onboard_user": Scripts(
        onboarding,
        "create_user_workspace",
        {
            "without_letter": Script(before={"send_welcome_email": SMTPServerDisconnected("")}),
            "cancelled_at_letter": Script(cancel_after="send_welcome_email"),
        },
    ),
    "upload_file": Scripts(
        test_upload_file, "create_file_record", {"tried_again": tried_again("update_file_metadata")}
    ),
    "process_file": Scripts(test_process_file, "extract_metadata"),
}


async def record_second_factors() -> None:
    for name, befall in SECOND_FACTORS.items():
        async with (
            ground() as (server, folder),
            test_log_in.scene(server, folder, Script(), account="alan") as playing,
        ):
            handle = await playing.start()
            await test_log_in.waiting(handle)
            await befall(server, handle)
            await end_of(handle)
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


async def record_repairs() -> None:
    """Of a switch that completed: of any other end less is left to take back."""
    for name, script in {"completed": Script(), "failed": Script(before={"restore_user_tenant": ANSWER})}.items():
        async with ground() as (server, folder), test_switch_tenant.scene(server, folder, script) as playing:
            switch = await playing.start()
            await end_of(switch)
            ended = EndedOperation(operation_id=switch.id, run_id=switch.result_run_id or "")
            repair = await server.client.start_workflow(
                RepairOperation.run, ended, id=repair_id(switch.id, ended.run_id), task_queue=TaskQueue.OPERATIONS
            )
            with suppress(WorkflowFailureError):
                await repair.result()
            await save(f"repair_operation.{name}", repair)


OTHERS: Mapping[str, Callable[[], Awaitable[None]]] = {
    "log_in": record_second_factors,
    "repair_operation": record_repairs,
}


async def main(workflows: Sequence[str]) -> None:
    for name in workflows or dict.fromkeys((*SCRIPTS, *OTHERS)):
        if name in SCRIPTS:
            await SCRIPTS[name].record(name)
        if name in OTHERS:
            await OTHERS[name]()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
    exit_process(0)
