"""Temporal workers of this process: one for each task queue, stopped together."""

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
from worker.interceptors import ErrorTranslation
from worker.logging_interceptor import LoggingInterceptor, operation_closed
from worker.metrics import Metrics
from worker.progress_notifier import ProgressNotifier
from worker.registry import Domain
from worker.sandbox import workflow_runner

GRACE = timedelta(seconds=5)
"""How long an activity under way may go on once the process is asked to stop; another worker tries it again."""
_BUILD_ID = "unversioned"
"""Else the SDK makes one at each start, of every module's code, which takes two seconds of a processor."""
HEARTBEATS = timedelta(seconds=0.5)
"""Between two heartbeats that are sent on: how far behind a long step's fraction and its cancellation may be."""


@asynccontextmanager
async def running_workers(
    client: Client,
    domains: Sequence[Domain],
    change_notifier: ChangeNotifier,
    interceptors: Sequence[Interceptor] = (),
    metrics: Metrics | None = None,
    version: WorkerDeploymentVersion | None = None,
) -> AsyncIterator[None]:
    """Workers for all that have work, and their chores; a worker that fails for good cancels the block and raises.

    With a version, workflows stay with the workers of the version that began them. Other activities than theirs have
    no version: one worker of a domain serves the workflows of all.
    """
    metrics = metrics or Metrics(CollectorRegistry())

    def closed(info: Info, outcome: str) -> None:
        metrics.closed(info, outcome)
        operation_closed(info, outcome)

    listeners = [domain.state_listener for domain in domains if domain.state_listener is not None]
    notifier = ProgressNotifier(change_notifier, closed, listeners)
    workers = [
        _worker(client, domain, [notifier, metrics, LoggingInterceptor(), ErrorTranslation(), *interceptors], version)
        for domain in domains
        if domain.workflows or domain.activities
    ]
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(notifier.running())
        for count_open in (domain.count_open for domain in domains if domain.count_open is not None):
            watching = partial(metrics.watch_long, count_open)
            await stack.enter_async_context(supervised(watching, name="count what runs long"))
        for chore in (chore for domain in domains for chore in domain.chores):
            await stack.enter_async_context(supervised(chore, name=chore.__qualname__))
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
    of = version if domain.workflows else None
    return Worker(
        client,
        task_queue=domain.queue,
        build_id=None if of else _BUILD_ID,
        deployment_config=_pinned(of) if of else None,
        workflows=domain.workflows,
        activities=domain.activities,
        workflow_runner=workflow_runner(),
        interceptors=interceptors,
        workflow_failure_exception_types=[DomainError],
        graceful_shutdown_timeout=GRACE,
        max_heartbeat_throttle_interval=HEARTBEATS,
    )


def _pinned(version: WorkerDeploymentVersion) -> WorkerDeploymentConfig:
    return WorkerDeploymentConfig(
        version=version, use_worker_versioning=True, default_versioning_behavior=VersioningBehavior.PINNED
    )
