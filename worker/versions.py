"""``python -m worker.versions``: which version of the workflows' workers begins operations, and which may be stopped.

``current``: from now on operations begin on WORKER_BUILD_ID, once its workers are there. ``drained BUILD``: succeeds
where no operation needs that build any more.
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
from infrastructure.startup import StartFailure
from infrastructure.temporal.connection import connect, exit_process
from worker.settings import VersionSettings

_NOT_YET = (RPCStatusCode.NOT_FOUND, RPCStatusCode.FAILED_PRECONDITION)
"""No worker of the version has polled, or not on every task queue that the one before serves."""
_FREE = (
    WorkerDeploymentVersionStatus.WORKER_DEPLOYMENT_VERSION_STATUS_DRAINED,
    WorkerDeploymentVersionStatus.WORKER_DEPLOYMENT_VERSION_STATUS_INACTIVE,
    WorkerDeploymentVersionStatus.WORKER_DEPLOYMENT_VERSION_STATUS_CREATED,
)


class VersionAbsent(Exception):
    """No workers of the version came in time; the message says so."""


async def make_current(client: Client, version: WorkerDeploymentVersion, *, deadline_seconds: float = 120) -> None:
    """Have new workflows begin on the version; harmless where they do. Raises VersionAbsent."""
    request = SetWorkerDeploymentCurrentVersionRequest(
        namespace=client.namespace,
        deployment_name=version.deployment_name,
        build_id=version.build_id,
        identity=client.identity,
    )
    refused: RPCError | None = None
    try:
        async with asyncio.timeout(deadline_seconds):
            while True:
                try:
                    await client.workflow_service.set_worker_deployment_current_version(request)
                except RPCError as error:
                    if error.status not in _NOT_YET:
                        raise
                    refused = error
                    await asyncio.sleep(0.5)
                else:
                    return
    except TimeoutError:
        raise VersionAbsent(f"{version.to_canonical_string()} is not current: {refused or 'no answer'}.") from None


async def is_drained(client: Client, version: WorkerDeploymentVersion) -> bool:
    """Whether no workflow runs on the version or will begin there. Temporal looks every few minutes."""
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
    return described.worker_deployment_version_info.status in _FREE


async def run(arguments: list[str], settings: VersionSettings) -> int:
    version = settings.version()
    if version is None:
        print("WORKER_DEPLOYMENT and WORKER_BUILD_ID must name a version.", file=sys.stderr)
        return 2
    client = await connect(address=settings.temporal_address, namespace=settings.temporal_namespace, keys=None)
    if arguments == ["current"]:
        try:
            await make_current(client, version)
        except VersionAbsent as error:
            print(error, file=sys.stderr)
            return 1
        print(f"Operations begin on {version.to_canonical_string()}.")
        return 0
    other = WorkerDeploymentVersion(version.deployment_name, arguments[1])
    drained = await is_drained(client, other)
    print(f"{other.to_canonical_string()} {'may be stopped' if drained else 'is still needed'}.")
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
