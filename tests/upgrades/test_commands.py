"""The commands of an upgrade: versions become current and drain."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from temporalio.api.deployment.v1 import WorkerDeploymentVersion
from temporalio.api.workflowservice.v1 import DescribeWorkerDeploymentVersionRequest

from contracts.task_queues import TaskQueue
from infrastructure.temporal.connection import connect
from tests.servers import HOST, running_temporal, wait_until
from tests.stack import ROOT, is_healthy, plain_environment, run_module, start_module
from worker.dev.ports import free_port


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a worker with the version adx.1.2.3, on a server without versions."""
    folder = tmp_path_factory.mktemp("versions")
    with running_temporal() as temporal:
        yield plain_environment() | {
            "DATABASE_URL": f"sqlite://{folder / 'adx.sqlite3'}",
            "DATA_DIR": str(folder),
            "HOST": HOST,
            "WORKER_PORT": str(free_port(HOST)),
            "SERVICE_KEY": "s" * 32,
            "TEMPORAL_ADDRESS": temporal.address,
            "WORKER_DEPLOYMENT": "adx",
            "WORKER_BUILD_ID": "1.2.3",
        }


def run_command(environment: Mapping[str, str], *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", *arguments], env=dict(environment), cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout + done.stderr


async def queues_of(environment: Mapping[str, str], deployment: str, build: str) -> set[str]:
    client = await connect(address=environment["TEMPORAL_ADDRESS"], namespace=None, keys=None)
    described = await client.workflow_service.describe_worker_deployment_version(
        DescribeWorkerDeploymentVersionRequest(
            namespace=client.namespace,
            deployment_version=WorkerDeploymentVersion(deployment_name=deployment, build_id=build),
        )
    )
    return {queue.name for queue in described.worker_deployment_version_info.task_queue_infos}


def test_operations_begin_on_a_build_once_it_is_current(environment: dict[str, str], tmp_path: Path) -> None:
    run_module("worker.migrate", environment)
    log = tmp_path / "worker.log"
    with start_module("worker", "operations", environment=environment, log=log) as process:
        wait_until(lambda: is_healthy(f"http://{HOST}:{environment['WORKER_PORT']}"), process, log)
        assert run_command(environment, "worker.versions", "current") == (0, "New operations start on adx.1.2.3.\n")
        assert run_command(environment, "worker.versions", "drained", "1.2.3") == (1, "adx.1.2.3 is in use.\n")
        assert run_command(environment, "worker.versions", "drained", "0.9") == (
            0,
            "adx.0.9 is not in use and may be stopped.\n",
        )
        versioned = asyncio.run(queues_of(environment, "adx", "1.2.3"))
    assert versioned == {TaskQueue.OPERATIONS}, "activities of all domains serve every version"


@pytest.mark.parametrize("module", [("worker", "operations"), ("worker.versions", "current")])
def test_incomplete_version_is_rejected(environment: dict[str, str], module: tuple[str, str]) -> None:
    status, text = run_command(environment | {"WORKER_BUILD_ID": ""}, *module)
    assert (status, "WORKER_DEPLOYMENT and WORKER_BUILD_ID must be set together" in text) == (2, True)


def test_unknown_command_prints_the_usage(environment: dict[str, str]) -> None:
    status, text = run_command(environment, "worker.versions", "drained")
    assert (status, "current | drained BUILD" in text) == (2, True)
