"""Running operations end correctly while workers of an older build are replaced by workers of a newer build."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.client import WorkflowFailureError
from temporalio.common import WorkerDeploymentVersion
from temporalio.exceptions import CancelledError

from contracts.operations import STEPS, OperationKind, OperationStatus
from infrastructure.temporal.connection import connect
from tests.servers import running_temporal
from tests.upgrades.next_release import Patched, Reordered
from tests.upgrades.upgrade_harness import Switch, UpgradeHarness, open_upgrade_harness, until
from worker.dev.binaries import temporal_cli
from worker.versions import VersionUnavailable, is_drained, make_current
from workflows.failures import is_terminal
from workflows.switch_tenant import SwitchTenant

OLD, NEW = WorkerDeploymentVersion("adx", "0.2.0"), WorkerDeploymentVersion("adx", "0.3.0")
OLD_ORDER = list(STEPS[OperationKind.TENANT_SWITCH])
NEW_ORDER = ["check_access", "load_session", "create_session", "set_tenant", "load_tenant", "end_old_session"]
FAST_DRAINAGE = {
    f"matching.wv.VersionDrainageStatus{name}": '"1s"' for name in ("VisibilityGracePeriod", "RefreshInterval")
}
"""Settings of a server that checks every second, instead of every few minutes, whether a version is drained."""

pytestmark = pytest.mark.filterwarnings("ignore:Cannot find activity to cancel")  # the activity ended at that moment


@pytest.fixture
def temporal_address() -> Iterator[str]:
    """The address of a new server: while a version is current, workers without a version receive no tasks."""
    with running_temporal(FAST_DRAINAGE) as server:
        yield server.address


async def wait_until_closed(switches: Sequence[Switch]) -> list[OperationStatus]:
    """Return the final statuses of the switches. Raises TimeoutError if a switch is stuck."""
    async with asyncio.timeout(60):
        ended = await asyncio.gather(*(switch.handle.result() for switch in switches), return_exceptions=True)
    cancelled = [isinstance(end, WorkflowFailureError) and isinstance(end.cause, CancelledError) for end in ended]
    states = [await switch.state() for switch in switches]
    assert [state.status is OperationStatus.CANCELLED for state in states] == cancelled
    return [state.status for state in states]


async def assert_consistent(
    harness: UpgradeHarness, switches: Sequence[Switch], ended: Sequence[OperationStatus]
) -> None:
    """Assert that completed switches have changed tenant and session, and that cancelled ones have changed nothing."""
    for switch, status in zip(switches, ended, strict=True):
        completed = status is OperationStatus.COMPLETED
        assert (await harness.tenant_of(switch) == harness.to_id) is completed
        assert await harness.sessions_of(switch) == (not completed, completed)


async def test_operations_end_on_the_build_that_began_them(temporal_address: str, tmp_path: Path) -> None:
    async with open_upgrade_harness(temporal_address, tmp_path) as harness:
        old = await harness.workflows(SwitchTenant, OLD)
        await make_current(harness.client, OLD)
        before = await harness.begin_until("set_tenant", 50)

        await harness.workflows(Reordered, NEW)
        await make_current(harness.client, NEW)
        after = await harness.begin_until("set_tenant", 50)
        for switch in (*before[::10], *after[::10]):
            await switch.handle.cancel()
        assert not await is_drained(harness.client, OLD)

        await harness.domain("users")
        await until(lambda: is_drained(harness.client, OLD), "the old build is drained")
        await old.stop()
        ended = await wait_until_closed([*before, *after])

        assert [ended.count(status) for status in (OperationStatus.COMPLETED, OperationStatus.CANCELLED)] == [90, 10]
        await assert_consistent(harness, [*before, *after], ended)
        assert not await is_drained(harness.client, NEW)
        assert [await switch.started_steps() for switch in before[1:10]] == [OLD_ORDER] * 9
        assert [await switch.started_steps() for switch in after[1:10]] == [NEW_ORDER] * 9


async def test_without_versions_operations_continue_on_a_patched_build(temporal_address: str, tmp_path: Path) -> None:
    async with open_upgrade_harness(temporal_address, tmp_path) as harness:
        old = await harness.workflows(SwitchTenant)
        before = await harness.begin_until("set_tenant", 15)
        await harness.workflows(Patched)
        both = await harness.begin_until("set_tenant", 15)
        await harness.domain("users")
        await old.stop()
        ended = await wait_until_closed([*before, *both])

        assert ended == [OperationStatus.COMPLETED] * 30
        await assert_consistent(harness, [*before, *both], ended)
        assert [await switch.started_steps() for switch in before] == [OLD_ORDER] * 15
        assert NEW_ORDER in [await switch.started_steps() for switch in both]


async def test_without_versions_reordered_build_is_stuck_until_rolled_back(
    temporal_address: str, tmp_path: Path
) -> None:
    async with open_upgrade_harness(temporal_address, tmp_path) as harness:
        old = await harness.workflows(SwitchTenant)
        switches = await harness.begin_until("set_tenant", 2)
        await old.stop()
        reordered = await harness.workflows(Reordered)
        await harness.domain("users")
        for switch in switches:
            await until(lambda switch=switch: failed_to_replay(switch), "it does not replay")  # type: ignore[misc]
        await reordered.stop()
        await harness.workflows(SwitchTenant)

        ended = await wait_until_closed(switches)
        assert ended == [OperationStatus.COMPLETED] * 2
        await assert_consistent(harness, switches, ended)


async def test_operations_continue_when_versions_are_turned_on_and_off(temporal_address: str, tmp_path: Path) -> None:
    async with open_upgrade_harness(temporal_address, tmp_path) as harness:
        without = await harness.workflows(SwitchTenant)
        switches = await harness.begin_until("set_tenant", 2)
        versioned = await harness.workflows(SwitchTenant, OLD)
        await make_current(harness.client, OLD)
        await without.stop()
        switches += await harness.begin_until("set_tenant", 2)

        await harness.workflows(SwitchTenant)
        off = ("worker", "deployment", "set-current-version", "--deployment-name", OLD.deployment_name, "--unversioned")
        await temporal(temporal_address, *off)
        switches += await harness.begin(2)
        await harness.domain("users")
        await until(lambda: is_drained(harness.client, OLD), "nothing needs the version")
        await versioned.stop()
        assert await wait_until_closed(switches) == [OperationStatus.COMPLETED] * 6


async def test_operations_of_a_build_without_workers_wait_until_moved(temporal_address: str, tmp_path: Path) -> None:
    async with open_upgrade_harness(temporal_address, tmp_path) as harness:
        old = await harness.workflows(SwitchTenant, OLD)
        await make_current(harness.client, OLD)
        switches = await harness.begin_until("set_tenant", 2)
        await old.stop()
        await harness.workflows(Patched, NEW)
        await make_current(harness.client, NEW)
        await harness.domain("users")
        later = await harness.begin(1)
        assert await wait_until_closed(later) == [OperationStatus.COMPLETED]
        assert [(await switch.state()).status for switch in switches] == [OperationStatus.RUNNING] * 2

        of_old = "TemporalWorkerDeploymentVersion = 'adx:0.2.0'"
        move = ("workflow", "update-options", "--query", of_old, "--versioning-override-behavior", "auto_upgrade")
        await temporal(temporal_address, *move)
        assert await wait_until_closed(switches) == [OperationStatus.COMPLETED] * 2


async def temporal(address: str, *command: str) -> None:
    """Run the Temporal CLI as docs/upgrades.md describes."""
    process = await asyncio.create_subprocess_exec(
        temporal_cli(), *command, "--yes", "--address", address, stdout=PIPE, stderr=STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


async def failed_to_replay(switch: Switch) -> bool:
    cause = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR
    return any(
        event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
        and event.workflow_task_failed_event_attributes.cause == cause
        for event in (await switch.handle.fetch_history()).events
    )


def test_worker_shutdown_does_not_end_an_operation() -> None:
    """Otherwise the end of its coroutine by the garbage collector would be an error outside of any workflow."""
    assert not is_terminal(GeneratorExit())


async def test_version_without_workers_does_not_become_current(temporal_address: str) -> None:
    client = await connect(address=temporal_address, namespace=None, keys=None)
    with pytest.raises(VersionUnavailable, match="adx"):
        await make_current(client, NEW, deadline_seconds=1)
