"""``python -m worker PROCESS``: run the Temporal workers and HTTP endpoints of a process's domains until SIGTERM."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from pydantic import ValidationError
from temporalio.runtime import Runtime

from activities.auth.totp_encryption import SecretCipher
from activities.notifications.mailer import create_mailer
from infrastructure.caching.cache import MemoryCache, RedisCache
from infrastructure.change_notifications import create_change_notifier
from infrastructure.observability.logging import configure_logs
from infrastructure.observability.monitoring import (
    Monitoring,
    MonitoringPortTaken,
    prometheus_runtime,
    serve_monitoring,
    temporal_check,
)
from infrastructure.observability.tracing import tracing
from infrastructure.passwords import Passwords
from infrastructure.redis_policy import RedisPolicy
from infrastructure.settings_validation import Environment, format_errors
from infrastructure.signing.transfer_tokens import TransferTokenSigner
from infrastructure.startup_errors import StartFailure, ensure_writable_folder, error_reason
from infrastructure.storage import open_storage
from infrastructure.temporal.codec import KeyRing
from infrastructure.temporal.connection import connect, ensure_search_attributes, exit_process
from worker.database import database, database_check, trace_statements
from worker.demo import DemoDataInProduction, refuse_demo_data
from worker.http import serve_services, services_app
from worker.metrics import Metrics
from worker.registry import PROCESSES, WorkerDependencies, domains_of, routes_of
from worker.settings import WorkerSettings
from worker.stop_signals import stop_on_signals
from worker.workers import running_workers

if TYPE_CHECKING:
    from infrastructure.observability.spans import Spans

log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_dependencies(
    settings: WorkerSettings, runtime: Runtime | None = None, spans: Spans | None = None
) -> AsyncIterator[WorkerDependencies]:
    """Open the connections and clients that the settings name; close them at the end of the block."""
    keys = KeyRing.parse(settings.codec_keys.get_secret_value()) if settings.codec_keys else None
    redis_url = settings.redis_url.get_secret_value() if settings.redis_url else None
    smtp_url = settings.smtp_url.get_secret_value() if settings.smtp_url else None
    service_keys = settings.service_keys()
    client = await connect(
        address=settings.temporal_address,
        namespace=settings.temporal_namespace,
        keys=keys,
        interceptors=[spans.temporal_interceptor()] if spans else (),
        runtime=runtime,
    )
    await ensure_search_attributes(client)
    async with AsyncExitStack() as stack:
        passwords = stack.enter_context(closing(Passwords()))
        await stack.enter_async_context(database(settings.database_url.get_secret_value()))
        redis = await stack.enter_async_context(RedisPolicy(redis_url).running()) if redis_url else None
        yield WorkerDependencies(
            temporal=client,
            passwords=passwords,
            cache=RedisCache(redis) if redis else MemoryCache(),
            redis=redis,
            change_notifier=create_change_notifier(redis),
            service_keys=service_keys,
            storage=open_storage(settings.storage()),
            transfer_token_signer=TransferTokenSigner(service_keys),
            mailer=create_mailer(smtp_url, _mail_folder(settings)),
            mail_sender=settings.mail_from,
            app_url=settings.product_url(),
            cipher=SecretCipher(keys),
            session_idle=timedelta(seconds=settings.session_idle_seconds),
            repair_deadline=timedelta(seconds=settings.repair_deadline_seconds),
            record_retention=timedelta(days=settings.record_retention_days),
        )


def _mail_folder(settings: WorkerSettings) -> Path:
    folder = settings.data_dir / "mail"
    return folder if settings.smtp_url else ensure_writable_folder(folder, "DATA_DIR")


async def run(process: str, settings: WorkerSettings) -> None:
    """Serve the domains of the process until a stop signal."""
    runtime, sdk = prometheus_runtime() if settings.metrics_port is not None else (None, None)
    monitoring = Monitoring(critical=("temporal", "database"), sdk_metrics_url=sdk)
    async with AsyncExitStack() as stack:
        stop = stack.enter_context(stop_on_signals())
        spans = stack.enter_context(tracing(f"worker-{process}"))
        if spans:
            trace_statements(spans)
        if settings.metrics_port is not None:
            await stack.enter_async_context(
                serve_monitoring(monitoring, host=settings.host, port=settings.metrics_port)
            )
        dependencies = await stack.enter_async_context(open_dependencies(settings, runtime, spans))
        if settings.environment is Environment.PRODUCTION and process in (
            "auth",
            "all",
        ):  # only these may read that table
            await refuse_demo_data()
        monitoring.add_checks(
            {
                "temporal": temporal_check(dependencies.temporal),
                "database": database_check(settings.database_url.get_secret_value()),
            }
        )
        if dependencies.redis is not None:
            monitoring.add_checks({"redis": dependencies.redis.ping})
        monitoring.add_stop_signal(stop.is_set)
        domains = domains_of(process, dependencies)
        metrics = Metrics(monitoring.registry)
        await stack.enter_async_context(
            running_workers(
                dependencies.temporal,
                domains,
                dependencies.change_notifier,
                metrics=metrics,
                version=settings.version(),
            )
        )
        log.info("worker_ready", process=process, port=settings.worker_port)
        await serve_services(
            services_app(routes_of(domains), spans), host=settings.host, port=settings.worker_port, stop=stop
        )
    log.info("worker_stopped", process=process)


def main(arguments: list[str]) -> int:
    """Return 0 after a stop signal, 1 if the process cannot start, 2 for a wrong call or wrong settings."""
    if len(arguments) != 1 or arguments[0] not in PROCESSES:
        print(f"usage: python -m worker {'|'.join(PROCESSES)}", file=sys.stderr)
        return 2
    configure_logs()
    try:
        settings = WorkerSettings()
    except ValidationError as error:
        print(format_errors(error), file=sys.stderr)
        return 2
    try:
        asyncio.run(run(arguments[0], settings))
    except (DemoDataInProduction, MonitoringPortTaken) as error:
        print(error, file=sys.stderr)
        return 2
    except StartFailure as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f"The worker cannot listen on {settings.host}:{settings.worker_port}: {error_reason(error)}.",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    exit_process(main(sys.argv[1:]))
