"""Operations under way while workers of an older and a newer build change places: none is stuck, each ends right."""

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
from tests.upgrades.upgrade_harness import Crossing, Switch, crossing, until
from worker.dev.binaries import temporal_cli
from worker.versions import VersionAbsent, is_drained, make_current
from workflows.failures import is_terminal
from workflows.switch_tenant import SwitchTenant

OLD, NEW = WorkerDeploymentVersion("adx", "0.1.0"), WorkerDeploymentVersion("adx", "0.2.0")
OLD_ORDER = list(STEPS[OperationKind.TENANT_SWITCH])
NEW_ORDER = ["check_access", "note_session", "create_session", "set_tenant", "load_tenant", "end_old_session"]
SOON = {f"matching.wv.VersionDrainageStatus{name}": '"1s"' for name in ("VisibilityGracePeriod", "RefreshInterval")}
"""The server looks for what a version still runs each second; as it comes, every few minutes."""

pytestmark = pytest.mark.filterwarnings("ignore:Cannot find activity to cancel")  # it ended at that moment


@pytest.fixture
def temporal_address() -> Iterator[str]:
    """A server of its own: where a version is current, workers without one get nothing."""
    with running_temporal(SOON) as server:
        yield server.address


async def ends(switches: Sequence[Switch]) -> list[OperationStatus]:
    """How they closed; an operation that is stuck ends the test."""
    async with asyncio.timeout(60):
        ended = await asyncio.gather(*(switch.handle.result() for switch in switches), return_exceptions=True)
    cancelled = [isinstance(end, WorkflowFailureError) and isinstance(end.cause, CancelledError) for end in ended]
    states = [await switch.state() for switch in switches]
    assert [state.status is OperationStatus.CANCELLED for state in states] == cancelled
    return [state.status for state in states]


async def assert_right(stage: Crossing, switches: Sequence[Switch], ended: Sequence[OperationStatus]) -> None:
    """A switch that completed has moved its user; a cancelled one has left everything as it was."""
    for switch, status in zip(switches, ended, strict=True):
        completed = status is OperationStatus.COMPLETED
        assert (await stage.tenant_of(switch) == stage.to_id) is completed
        assert await stage.sessions_of(switch) == (not completed, completed)


async def test_a_hundred_operations_end_on_the_build_that_began_them_whatever_the_next_one_changes(
    temporal_address: str, tmp_path: Path
) -> None:
    async with crossing(temporal_address, tmp_path) as stage:
        old = await stage.workflows(SwitchTenant, OLD)
        await make_current(stage.client, OLD)
        before = await stage.begin_until("set_tenant", 50)

        await stage.workflows(Reordered, NEW)
        await make_current(stage.client, NEW)
        after = await stage.begin_until("set_tenant", 50)
        for switch in (*before[::10], *after[::10]):
            await switch.handle.cancel()
        assert not await is_drained(stage.client, OLD)

        await stage.domain("users")
        await until(lambda: is_drained(stage.client, OLD), "the old build is drained")
        await old.stop()
        ended = await ends([*before, *after])

        assert [ended.count(status) for status in (OperationStatus.COMPLETED, OperationStatus.CANCELLED)] == [90, 10]
        await assert_right(stage, [*before, *after], ended)
        assert not await is_drained(stage.client, NEW)
        assert [await switch.order() for switch in before[1:10]] == [OLD_ORDER] * 9
        assert [await switch.order() for switch in after[1:10]] == [NEW_ORDER] * 9


async def test_without_versions_operations_go_over_to_a_build_with_a_patch(
    temporal_address: str, tmp_path: Path
) -> None:
    async with crossing(temporal_address, tmp_path) as stage:
        old = await stage.workflows(SwitchTenant)
        before = await stage.begin_until("set_tenant", 15)
        await stage.workflows(Patched)
        both = await stage.begin_until("set_tenant", 15)
        await stage.domain("users")
        await old.stop()
        ended = await ends([*before, *both])

        assert ended == [OperationStatus.COMPLETED] * 30
        await assert_right(stage, [*before, *both], ended)
        assert [await switch.order() for switch in before] == [OLD_ORDER] * 15
        assert NEW_ORDER in [await switch.order() for switch in both]


async def test_without_versions_a_build_that_reorders_is_stuck_until_it_is_rolled_back(
    temporal_address: str, tmp_path: Path
) -> None:
    async with crossing(temporal_address, tmp_path) as stage:
        old = await stage.workflows(SwitchTenant)
        switches = await stage.begin_until("set_tenant", 2)
        await old.stop()
        careless = await stage.workflows(Reordered)
        await stage.domain("users")
        for switch in switches:
            await until(lambda switch=switch: failed_to_replay(switch), "it does not replay")  # type: ignore[misc]
        await careless.stop()
        await stage.workflows(SwitchTenant)

        ended = await ends(switches)
        assert ended == [OperationStatus.COMPLETED] * 2
        await assert_right(stage, switches, ended)


async def test_operations_go_on_when_versions_are_turned_on_and_when_they_are_turned_off(
    temporal_address: str, tmp_path: Path
) -> None:
    async with crossing(temporal_address, tmp_path) as stage:
        without = await stage.workflows(SwitchTenant)
        switches = await stage.begin_until("set_tenant", 2)
        versioned = await stage.workflows(SwitchTenant, OLD)
        await make_current(stage.client, OLD)
        await without.stop()
        switches += await stage.begin_until("set_tenant", 2)

        await stage.workflows(SwitchTenant)
        off = ("worker", "deployment", "set-current-version", "--deployment-name", OLD.deployment_name, "--unversioned")
        await temporal(temporal_address, *off)
        switches += await stage.begin(2)
        await stage.domain("users")
        await until(lambda: is_drained(stage.client, OLD), "nothing needs the version")
        await versioned.stop()
        assert await ends(switches) == [OperationStatus.COMPLETED] * 6


async def test_operations_whose_build_has_no_workers_left_wait_until_they_are_moved(
    temporal_address: str, tmp_path: Path
) -> None:
    async with crossing(temporal_address, tmp_path) as stage:
        old = await stage.workflows(SwitchTenant, OLD)
        await make_current(stage.client, OLD)
        switches = await stage.begin_until("set_tenant", 2)
        await old.stop()
        await stage.workflows(Patched, NEW)
        await make_current(stage.client, NEW)
        await stage.domain("users")
        later = await stage.begin(1)
        assert await ends(later) == [OperationStatus.COMPLETED]
        assert [(await switch.state()).status for switch in switches] == [OperationStatus.RUNNING] * 2

        of_old = "TemporalWorkerDeploymentVersion = 'adx:0.1.0'"
        move = ("workflow", "update-options", "--query", of_old, "--versioning-override-behavior", "auto_upgrade")
        await temporal(temporal_address, *move)
        assert await ends(switches) == [OperationStatus.COMPLETED] * 2


async def temporal(address: str, *command: str) -> None:
    """Run the Temporal CLI, as docs/upgrades.md says."""
    process = await asyncio.create_subprocess_exec(
        temporal_cli(), *command, "--yes", "--address", address, stdout=PIPE, stderr=STDOUT
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()


async def failed_to_replay(switch: Switch) -> bool:
    cause = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR
    return any(
        event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
        and event.workflow_task_failed_event_attributes.cause == cause
        for event in (await switch.handle.fetch_history()).events
    )


def test_an_operation_whose_worker_stops_is_not_ended() -> None:
    """Else the garbage collector's end of its coroutine would be an error, outside of any workflow."""
    assert not is_terminal(GeneratorExit())


async def test_a_version_without_workers_does_not_become_current(temporal_address: str) -> None:
    client = await connect(address=temporal_address, namespace=None, keys=None)
    with pytest.raises(VersionAbsent, match="adx"):
        await make_current(client, NEW, deadline_seconds=1)
