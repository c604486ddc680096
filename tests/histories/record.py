"""Record the workflow histories that every later release must be able to replay.

``python -m tests.histories.record [WORKFLOW...]`` records these workflows (such as ``switch_tenant``), or all of them,
into the folder of the version in pyproject.toml. Existing histories are not overwritten.
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
from tests.workflows.saga_harness import FINAL_ERROR, FaultPlan
from worker.dev.binaries import temporal_test_server
from workflows.mfa import CHALLENGE_TIMEOUT, MAX_ATTEMPTS
from workflows.repair_operation import RepairOperation

VERSION: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
FOLDER = Path(__file__).parent / VERSION


@asynccontextmanager
async def environment() -> AsyncIterator[tuple[WorkflowEnvironment, Path]]:
    """Yield a new time-skipping server and an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        async with await WorkflowEnvironment.start_time_skipping(
            test_server_existing_path=str(temporal_test_server()), data_converter=pydantic_data_converter
        ) as server:
            yield server, Path(folder)


async def save(name: str, handle: WorkflowHandle[Any, Any]) -> None:
    """Write the history of the workflow to a file, unless the file exists."""
    path = FOLDER / f"{name}.json"
    if path.exists():
        return
    history = json.loads((await handle.fetch_history()).to_json(), object_hook=_without_machine_data)
    FOLDER.mkdir(exist_ok=True)
    path.write_text(json.dumps(history, separators=(",", ":")) + "\n")
    print(path.relative_to(ROOT))  # noqa: T201 - output of a command


def _without_machine_data(part: dict[str, Any]) -> dict[str, Any]:
    """Remove stack traces and worker identities, which reveal the machine and are not needed for a replay."""
    return {key: value for key, value in part.items() if key not in ("stackTrace", "identity", "binaryChecksum")}


@dataclass(frozen=True)
class RecordingPlan:
    """The histories to record of one workflow.

    They are a completed operation, one that fails at each step of ``ACTIVITY_OF``, one that is cancelled after an
    activity, and those of further fault plans by name. ``tests`` is the module that defines ``open_scenario``.
    """

    tests: ModuleType
    cancelled_after: str
    further_plans: Mapping[str, FaultPlan] = field(default_factory=dict)

    async def record(self, workflow: str) -> None:
        fault_plans = {
            "completed": FaultPlan(),
            "cancelled": FaultPlan(cancel_after=self.cancelled_after),
            **self.further_plans,
        }
        for step, activity in self.tests.ACTIVITY_OF.items():
            fault_plans[f"failed_at_{step}"] = FaultPlan(after={activity: FINAL_ERROR})
        for name, fault_plan in fault_plans.items():
            async with (
                environment() as (server, folder),
                self.tests.open_scenario(server, folder, fault_plan) as scenario,
            ):
                handle = await scenario.start()
                await end_of(handle)
                await save(f"{workflow}.{name}", handle)


def retried(activity: str) -> FaultPlan:
    """Return a plan in which the first attempt of the activity fails."""
    return FaultPlan(before={activity: ConnectionError()}, max_faults={activity: 1})


RECORDING_PLANS = {
    "switch_tenant": RecordingPlan(test_switch_tenant, "create_session", {"retried": retried("load_tenant_data")}),
    "log_in": RecordingPlan(test_log_in, "create_session"),
    "onboard_user": RecordingPlan(
        onboarding,
        "create_user_workspace",
        {
            "without_email": FaultPlan(before={"send_welcome_email": SMTPServerDisconnected("")}),
            "cancelled_at_email": FaultPlan(cancel_after="send_welcome_email"),
        },
    ),
    "upload_file": RecordingPlan(test_upload_file, "create_file_record", {"retried": retried("update_file_metadata")}),
    "process_file": RecordingPlan(test_process_file, "extract_metadata"),
}


async def record_second_factors() -> None:
    """Record logins with a second factor."""
    for name, event in SECOND_FACTORS.items():
        async with (
            environment() as (server, folder),
            test_log_in.open_scenario(server, folder, FaultPlan(), account="alan") as scenario,
        ):
            handle = await scenario.start()
            await test_log_in.waiting(handle)
            await event(server, handle)
            await end_of(handle)
            await save(f"log_in.{name}", handle)


async def _submit_wrong_then_right_code(_: WorkflowEnvironment, handle: WorkflowHandle[Any, Any]) -> None:
    await test_log_in.submit(handle, test_log_in.wrong_code())
    await test_log_in.submit(handle, test_log_in.right_code())


async def _submit_wrong_codes(_server: WorkflowEnvironment, handle: WorkflowHandle[Any, Any]) -> None:
    for _ in range(MAX_ATTEMPTS):
        await test_log_in.submit(handle, test_log_in.wrong_code())


async def _cancel(_: WorkflowEnvironment, handle: WorkflowHandle[Any, Any]) -> None:
    await handle.cancel()


async def _wait_for_timeout(server: WorkflowEnvironment, _: WorkflowHandle[Any, Any]) -> None:
    await server.sleep(CHALLENGE_TIMEOUT + timedelta(seconds=1))


SECOND_FACTORS: Mapping[str, Callable[[WorkflowEnvironment, WorkflowHandle[Any, Any]], Awaitable[None]]] = {
    "with_mfa": _submit_wrong_then_right_code,
    "failed_at_check_mfa": _submit_wrong_codes,
    "cancelled_at_check_mfa": _cancel,
    "timed_out_at_check_mfa": _wait_for_timeout,
}


async def record_repairs() -> None:
    """Record repairs of a completed switch, which has the most steps to undo."""
    for name, fault_plan in {
        "completed": FaultPlan(),
        "failed": FaultPlan(before={"undo_update_user_tenant": FINAL_ERROR}),
    }.items():
        async with (
            environment() as (server, folder),
            test_switch_tenant.open_scenario(server, folder, fault_plan) as scenario,
        ):
            switch = await scenario.start()
            await end_of(switch)
            ended = EndedOperation(operation_id=switch.id, run_id=switch.result_run_id or "")
            repair = await server.client.start_workflow(
                RepairOperation.run, ended, id=repair_id(switch.id, ended.run_id), task_queue=TaskQueue.OPERATIONS
            )
            with suppress(WorkflowFailureError):
                await repair.result()
            await save(f"repair_operation.{name}", repair)


FURTHER_RECORDINGS: Mapping[str, Callable[[], Awaitable[None]]] = {
    "log_in": record_second_factors,
    "repair_operation": record_repairs,
}


async def main(workflows: Sequence[str]) -> None:
    for name in workflows or dict.fromkeys((*RECORDING_PLANS, *FURTHER_RECORDINGS)):
        if name in RECORDING_PLANS:
            await RECORDING_PLANS[name].record(name)
        if name in FURTHER_RECORDINGS:
            await FURTHER_RECORDINGS[name]()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
    exit_process(0)
