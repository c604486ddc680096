"""Processing a file: what it finds, that it can be watched, stopped and taken up again, and what a mishap leaves."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any, NamedTuple

import pytest
from temporalio.client import Client, WorkflowHandle
from temporalio.testing import WorkflowEnvironment

from activities.files.file_analysis import BLOCK_BYTES
from contracts.errors import OperationErrorCode
from contracts.files import ProcessFileCommand, TextMetadata
from contracts.operations import (
    STEPS,
    FileProcessed,
    OperationKind,
    OperationState,
    OperationStatus,
    StepHeartbeat,
    StepStatus,
)
from infrastructure.storage import open_storage, storage_key
from tests.activities.files.file_fixtures import FileServices, caller, in_chunks, objects, rows
from tests.workflows.file_saga_harness import (
    FileSagaHarness,
    SlowStorage,
    end_of,
    files_worker,
    open_database,
    open_file_saga_harness,
    operations_worker,
)
from tests.workflows.saga_harness import (
    FINAL_ERROR,
    FaultPlan,
    assert_compensated_despite_cancellation,
    cancel_during_undo,
)
from worker.dev.subprocesses import child_process
from workflows.process_file import ProcessFile

KIND = OperationKind.FILE_PROCESSING
TEXT = b"three small words\n"
LONG = (TEXT * (BLOCK_BYTES // len(TEXT) + 1))[:BLOCK_BYTES] * 20
OWNER = caller()
ACTIVITY_OF = {step: step for step in STEPS[KIND]}


class Scenario(NamedTuple):
    harness: FileSagaHarness
    command: ProcessFileCommand

    async def run(self) -> OperationState:
        return await self.harness.run(ProcessFile.run, self.command, KIND)

    async def start(self) -> WorkflowHandle[Any, Any]:
        return await self.harness.start(ProcessFile.run, self.command, KIND)

    async def snapshot(self) -> tuple[list[object], set[Path]]:
        return await rows(), objects(self.harness.folder)


async def kept(services: FileServices, content: bytes) -> ProcessFileCommand:
    file_id = await services.create_file(OWNER, content)
    return ProcessFileCommand(file_id=file_id, tenant_id=OWNER.tenant_id or "", user_id=OWNER.user_id or "")


@asynccontextmanager
async def open_scenario(
    environment: WorkflowEnvironment, folder: Path, fault_plan: FaultPlan
) -> AsyncIterator[Scenario]:
    async with open_file_saga_harness(environment.client, folder, fault_plan) as harness:
        yield Scenario(harness, await kept(harness.services, TEXT))


async def test_publishes_metadata_of_a_text(time_skipping: WorkflowEnvironment, tmp_path: Path) -> None:
    async with open_scenario(time_skipping, tmp_path, FaultPlan()) as scenario:
        state = await scenario.run()
        [file] = await scenario.harness.services.files.get_files(OWNER, [scenario.command.file_id])

    assert state.status is OperationStatus.COMPLETED
    assert state.result == FileProcessed(file_id=file.id)
    assert file.metadata == TextMetadata(lines=1, words=3, bytes=len(TEXT))
    assert [step.name for step in state.steps if step.status is StepStatus.COMPLETED] == list(STEPS[KIND])


@pytest.mark.parametrize("when", ["before", "after", "cancel_before", "cancel_after"])
@pytest.mark.parametrize("step", STEPS[KIND])
async def test_failure_or_cancellation_at_any_step_leaves_no_changes(
    time_skipping: WorkflowEnvironment, tmp_path: Path, step: str, when: str
) -> None:
    cancelled = when.startswith("cancel")
    fault_plan = FaultPlan(**{when: step if cancelled else {step: FINAL_ERROR}})  # type: ignore[arg-type]
    async with open_scenario(time_skipping, tmp_path, fault_plan) as scenario:
        before = await scenario.snapshot()
        state = await scenario.run()
        assert await scenario.snapshot() == before

    assert state.status is (OperationStatus.CANCELLED if cancelled else OperationStatus.FAILED)
    assert state.failure is not None
    assert state.failure.compensated
    assert fault_plan.attempted.count("undo_publish_metadata") == (step == "publish_metadata")


async def test_cancellation_during_compensation_stops_no_undo(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    fault_plan = cancel_during_undo("publish_metadata", "undo_publish_metadata")
    async with open_scenario(time_skipping, tmp_path, fault_plan) as scenario:
        before = await scenario.snapshot()
        state = await scenario.run()
        assert await scenario.snapshot() == before

    assert_compensated_despite_cancellation(fault_plan, state, ["undo_publish_metadata"])


async def test_changed_bytes_in_storage_fail_as_data_inconsistency(
    time_skipping: WorkflowEnvironment, tmp_path: Path
) -> None:
    async with open_scenario(time_skipping, tmp_path, FaultPlan()) as scenario:
        key = storage_key(scenario.command.tenant_id, scenario.command.file_id)
        await scenario.harness.services.storage.save(key, in_chunks(TEXT.upper()))
        state = await scenario.run()

    assert state.failure is not None
    assert (state.failure.code, state.failure.step) == (OperationErrorCode.DATA_INCONSISTENCY, "verify_checksum")
    assert not state.failure.retryable


@asynccontextmanager
async def under_way(client: Client, folder: Path) -> AsyncIterator[WorkflowHandle[Any, Any]]:
    """A long file is being processed, wherever a worker of files may run."""
    async with open_database(folder), operations_worker(client):
        harness = FileSagaHarness(client, FaultPlan(), folder)
        command = await kept(harness.services, LONG)
        yield await harness.start(ProcessFile.run, command, KIND)


async def fraction_of(handle: WorkflowHandle[Any, Any], step: str) -> float | None:
    """What the activity under way was last heard to say, if it is this step's."""
    described = await handle.describe()
    for activity in described.raw_description.pending_activities:
        if activity.activity_type.name == step and activity.HasField("heartbeat_details"):
            [said] = await handle._client.data_converter.decode(  # noqa: SLF001
                activity.heartbeat_details.payloads, [StepHeartbeat]
            )
            return float(said.fraction)
    return None


async def heard(handle: WorkflowHandle[Any, Any], step: str, at_least: float) -> list[float]:
    """All that is heard of the step until it is so far."""
    fractions: list[float] = []
    async with asyncio.timeout(30):
        while not fractions or fractions[-1] < at_least:
            fraction = await fraction_of(handle, step)
            if fraction is not None and fraction not in fractions[-1:]:
                fractions.append(fraction)
            await asyncio.sleep(0.05)
    return fractions


@pytest.mark.parametrize("step", ["verify_checksum", "extract_metadata"])
async def test_progress_grows_and_a_cancellation_stops_the_step_promptly(
    temporal_client: Client, tmp_path: Path, step: str
) -> None:
    async with under_way(temporal_client, tmp_path) as handle:
        slow = SlowStorage(open_storage(str(tmp_path / "objects")), 0.1, tmp_path / "reads")
        async with files_worker(temporal_client, slow):
            fractions = await heard(handle, step, 0.5)
            asked = time.monotonic()
            await handle.cancel()
            state = await end_of(handle)
            took = time.monotonic() - asked

    assert fractions == sorted(fractions)
    assert len(fractions) >= 2
    assert state.status is OperationStatus.CANCELLED
    assert took < 3


@contextmanager
def killable_worker(address: str, folder: Path) -> Iterator[Popen[bytes]]:
    command = [sys.executable, "-m", "tests.workflows.file_saga_harness", address, str(folder), "0.2"]
    with child_process(command, log=folder / "worker.log", environment=os.environ) as process:
        yield process


def reads_of(folder: Path, process: Popen[bytes]) -> list[int]:
    """Where the pieces began that this worker read."""
    lines = [line.split() for line in (folder / "reads").read_text().splitlines()]
    return [int(start) for pid, start in lines if int(pid) == process.pid]


@pytest.mark.parametrize("step", ["verify_checksum", "extract_metadata"])
async def test_resumes_at_the_last_heartbeat_of_a_killed_worker(
    temporal_client: Client, temporal_address: str, tmp_path: Path, step: str
) -> None:
    async with under_way(temporal_client, tmp_path) as handle:
        with killable_worker(temporal_address, tmp_path) as first:
            before = await heard(handle, step, 0.4)
            first.send_signal(signal.SIGKILL)
            first.wait()
        with killable_worker(temporal_address, tmp_path) as second:
            after = await heard(handle, step, before[-1] + 0.1)
            state = await end_of(handle)
        read = reads_of(tmp_path, second)

    assert state.status is OperationStatus.COMPLETED
    assert after == sorted(after)
    assert after[0] >= before[-1]
    began_at = read[0] / len(LONG)
    assert 0.3 <= began_at <= after[-1], "it did not begin anew"
