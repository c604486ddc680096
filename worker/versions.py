"""``python -m worker.versions``: choose the worker version that runs new workflows; check whether an old one is in use.

``current``: wait for workers of WORKER_BUILD_ID, then start new workflows on that build. ``drained BUILD``: exit with
status 0 if no workflow runs on that build, else 1.
"""

from __future__ import annotations

import asyncio
import sys

from pydantic import ValidationError
from temporalio.api.deployment import v1 as deployments
from temporalio.api.enums.v1 import WorkerDeploymentVersionStatus
from temporalio.api.workflowservice.v1 import (
    DescribeWorkerDeploymentVersionRequest,
    SetWorkerDeploymentCurrentVersionRequest,
)
from temporalio.client import Client
from temporalio.common import WorkerDeploymentVersion
from temporalio.service import RPCError, RPCStatusCode

from infrastructure.settings_validation import format_errors
from infrastructure.startup_errors import StartFailure
from infrastructure.temporal.connection import connect, exit_process
from worker.settings import VersionSettings

_RETRYABLE_STATUSES = (RPCStatusCode.NOT_FOUND, RPCStatusCode.FAILED_PRECONDITION)
"""No worker of the version has polled, or not on every task queue that the one before serves."""
_UNUSED_STATUSES = (
    WorkerDeploymentVersionStatus.WORKER_DEPLOYMENT_VERSION_STATUS_DRAINED,
    WorkerDeploymentVersionStatus.WORKER_DEPLOYMENT_VERSION_STATUS_INACTIVE,
    WorkerDeploymentVersionStatus.WORKER_DEPLOYMENT_VERSION_STATUS_CREATED,
)


class VersionUnavailable(Exception):
    """No worker of the version connected to Temporal within the deadline."""


async def make_current(client: Client, version: WorkerDeploymentVersion, *, deadline_seconds: float = 120) -> None:
    """Start new workflows on the version from now on.

    Raises:
        VersionUnavailable: no worker of the version connected within the deadline.
    """
    request = SetWorkerDeploymentCurrentVersionRequest(
        namespace=client.namespace,
        deployment_name=version.deployment_name,
        build_id=version.build_id,
        identity=client.identity,
    )
    last_error: RPCError | None = None
    try:
        async with asyncio.timeout(deadline_seconds):
            while True:
                try:
                    await client.workflow_service.set_worker_deployment_current_version(request)
                except RPCError as error:
                    if error.status not in _RETRYABLE_STATUSES:
                        raise
                    last_error = error
                    await asyncio.sleep(0.5)
                else:
                    return
    except TimeoutError:
        raise VersionUnavailable(
            f"{version.to_canonical_string()} is not current: {last_error or 'no answer'}."
        ) from None


async def is_drained(client: Client, version: WorkerDeploymentVersion) -> bool:
    """Whether no workflow runs on the version and none will start on it. Temporal updates this every few minutes."""
    request = DescribeWorkerDeploymentVersionRequest(
        namespace=client.namespace,
        deployment_version=deployments.WorkerDeploymentVersion(
            deployment_name=version.deployment_name, build_id=version.build_id
        ),
    )
    try:
        described = await client.workflow_service.describe_worker_deployment_version(request)
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            return True
        raise
    return described.worker_deployment_version_info.status in _UNUSED_STATUSES


async def run(arguments: list[str], settings: VersionSettings) -> int:
    """Run ``current`` or ``drained BUILD``; return the exit status."""
    version = settings.version()
    if version is None:
        print("WORKER_DEPLOYMENT and WORKER_BUILD_ID must name a version.", file=sys.stderr)
        return 2
    client = await connect(address=settings.temporal_address, namespace=settings.temporal_namespace, keys=None)
    if arguments == ["current"]:
        try:
            await make_current(client, version)
        except VersionUnavailable as error:
            print(error, file=sys.stderr)
            return 1
        print(f"New operations start on {version.to_canonical_string()}.")
        return 0
    other = WorkerDeploymentVersion(version.deployment_name, arguments[1])
    drained = await is_drained(client, other)
    print(f"{other.to_canonical_string()} {'is not in use and may be stopped' if drained else 'is in use'}.")
    return 0 if drained else 1


def main(arguments: list[str]) -> int:
    match arguments:
        case ["current"] | ["drained", _]:
            pass
        case _:
            print("usage: python -m worker.versions current | drained BUILD", file=sys.stderr)
            return 2
    try:
        settings = VersionSettings()
    except ValidationError as error:
        print(format_errors(error), file=sys.stderr)
        return 2
    try:
        return asyncio.run(run(arguments, settings))
    except StartFailure as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    exit_process(main(sys.argv[1:]))
