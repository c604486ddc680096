"""Run the Temporal workers of this process, one per task queue, and the background tasks of its domains."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial

from prometheus_client import CollectorRegistry
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.worker import Interceptor, Worker, WorkerDeploymentConfig
from temporalio.workflow import Info

from contracts.errors import DomainError
from infrastructure.change_notifications import ChangeNotifier
from infrastructure.tasks import run_concurrently, supervised
from worker.error_translation import ErrorTranslationInterceptor
from worker.logging_interceptor import LoggingInterceptor, log_operation_closed
from worker.metrics import Metrics
from worker.progress_notifier import ProgressNotifier
from worker.registry import Domain
from worker.sandbox import workflow_runner

SHUTDOWN_TIMEOUT = timedelta(seconds=5)
"""The time that running activities have to finish once the process stops; another worker retries the others."""
_UNVERSIONED_BUILD_ID = "unversioned"
"""Without a build id the SDK hashes the code of every module at each start, which takes two seconds."""
HEARTBEAT_INTERVAL = timedelta(seconds=0.5)
"""The minimum time between two heartbeats that are sent: the delay of a step's progress and of its cancellation."""


@asynccontextmanager
async def running_workers(
    client: Client,
    domains: Sequence[Domain],
    change_notifier: ChangeNotifier,
    interceptors: Sequence[Interceptor] = (),
    metrics: Metrics | None = None,
    version: WorkerDeploymentVersion | None = None,
) -> AsyncIterator[None]:
    """Run the workers and background tasks while the block runs. A worker that fails cancels the block and raises.

    With a version, workflows stay on workers of the version that started them. Workers without workflows have no
    version: they run the activities of workflows of every version.
    """
    metrics = metrics or Metrics(CollectorRegistry())

    def on_closed(info: Info, outcome: str) -> None:
        metrics.record_closed(info, outcome)
        log_operation_closed(info, outcome)

    listeners = [domain.state_listener for domain in domains if domain.state_listener is not None]
    progress = ProgressNotifier(change_notifier, on_closed, listeners)
    workers = [
        _worker(
            client,
            domain,
            [progress, metrics, LoggingInterceptor(), ErrorTranslationInterceptor(), *interceptors],
            version,
        )
        for domain in domains
        if domain.workflows or domain.activities
    ]
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(progress.running())
        for count_open in (domain.count_open for domain in domains if domain.count_open is not None):
            count = partial(metrics.count_long_running, count_open)
            await stack.enter_async_context(supervised(count, name="count long-running operations"))
        for task in (task for domain in domains for task in domain.background_tasks):
            await stack.enter_async_context(supervised(task, name=task.__qualname__))
        for worker in workers:
            await stack.enter_async_context(worker)
        try:
            yield
        finally:
            await run_concurrently(*(worker.shutdown() for worker in workers if worker.is_running))


def _worker(
    client: Client,
    domain: Domain,
    interceptors: Sequence[Interceptor],
    version: WorkerDeploymentVersion | None,
) -> Worker:
    pinned = version if domain.workflows else None
    return Worker(
        client,
        task_queue=domain.queue,
        build_id=None if pinned else _UNVERSIONED_BUILD_ID,
        deployment_config=_deployment_config(pinned) if pinned else None,
        workflows=domain.workflows,
        activities=domain.activities,
        workflow_runner=workflow_runner(),
        interceptors=interceptors,
        workflow_failure_exception_types=[DomainError],
        graceful_shutdown_timeout=SHUTDOWN_TIMEOUT,
        max_heartbeat_throttle_interval=HEARTBEAT_INTERVAL,
    )


def _deployment_config(version: WorkerDeploymentVersion) -> WorkerDeploymentConfig:
    return WorkerDeploymentConfig(
        version=version, use_worker_versioning=True, default_versioning_behavior=VersioningBehavior.PINNED
    )
