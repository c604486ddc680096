"""``python -m worker DOMAIN``: the workers and endpoints of one domain, or of all, until SIGTERM."""

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

from activities.auth.sealing import SecretSeal
from activities.notifications.mail import open_mail
from contracts.codec import KeyRing
from contracts.environment import Environment, what_is_wrong
from contracts.logs import configure_logs
from contracts.startup import StartFailure, reason_of, usable_folder
from contracts.storage import open_storage
from contracts.temporal import connect, ensure_search_attributes, leave
from contracts.tracing import traced
from contracts.transfers import TransferSigner
from infrastructure.cache import MemoryCache, RedisCache
from infrastructure.change_notifications import create_wakeups
from infrastructure.monitoring import (
    Monitoring,
    MonitoringPortTaken,
    monitored,
    telling_runtime,
    temporal_answers,
)
from infrastructure.passwords import Passwords
from infrastructure.redis_policy import RedisPolicy
from worker.database import database, database_answers, trace_statements
from worker.demo import DemoDataInProduction, refuse_demo_data
from worker.http import serve_services, services_app
from worker.metrics import Metrics
from worker.registry import PROCESSES, Parts, domains_of, routes_of
from worker.settings import WorkerSettings
from worker.signals import stop_on_signals
from worker.workers import running_workers

if TYPE_CHECKING:
    from contracts.spans import Spans

log = structlog.get_logger(__name__)


@asynccontextmanager
async def opened_parts(
    settings: WorkerSettings, runtime: Runtime | None = None, spans: Spans | None = None
) -> AsyncIterator[Parts]:
    """All that a worker process is made of, as its settings say."""
    keys = KeyRing.parse(settings.codec_keys.get_secret_value()) if settings.codec_keys else None
    redis_url = settings.redis_url.get_secret_value() if settings.redis_url else None
    smtp_url = settings.smtp_url.get_secret_value() if settings.smtp_url else None
    service_keys = settings.service_keys()
    client = await connect(
        address=settings.temporal_address,
        namespace=settings.temporal_namespace,
        keys=keys,
        interceptors=[spans.temporal()] if spans else (),
        runtime=runtime,
    )
    await ensure_search_attributes(client)
    async with AsyncExitStack() as stack:
        passwords = stack.enter_context(closing(Passwords()))
        await stack.enter_async_context(database(settings.database_url.get_secret_value()))
        redis = await stack.enter_async_context(RedisPolicy(redis_url).running()) if redis_url else None
        yield Parts(
            temporal=client,
            passwords=passwords,
            cache=RedisCache(redis) if redis else MemoryCache(),
            redis=redis,
            wakeups=create_wakeups(redis),
            service_keys=service_keys,
            storage=open_storage(settings.storage()),
            transfers=TransferSigner(service_keys),
            mail=open_mail(smtp_url, _mail_folder(settings)),
            mail_from=settings.mail_from,
            app_url=settings.product_url(),
            seal=SecretSeal(keys),
            session_idle=timedelta(seconds=settings.session_idle_seconds),
            repair_within=timedelta(seconds=settings.repair_seconds),
            record_retention=timedelta(days=settings.record_retention_days),
        )


def _mail_folder(settings: WorkerSettings) -> Path:
    folder = settings.data_dir / "mail"
    return folder if settings.smtp_url else usable_folder(folder, "DATA_DIR")


async def run(process: str, settings: WorkerSettings) -> None:
    runtime, sdk = telling_runtime() if settings.metrics_port is not None else (None, None)
    monitoring = Monitoring(vital=("temporal", "database"), sdk=sdk)
    async with AsyncExitStack() as stack:
        stop = stack.enter_context(stop_on_signals())
        spans = stack.enter_context(traced(f"worker-{process}"))
        if spans:
            trace_statements(spans)
        if settings.metrics_port is not None:
            await stack.enter_async_context(monitored(monitoring, host=settings.host, port=settings.metrics_port))
        parts = await stack.enter_async_context(opened_parts(settings, runtime, spans))
        if settings.environment is Environment.PRODUCTION and process in ("auth", "all"):  # others may not look there
            await refuse_demo_data()
        monitoring.add_checks(
            {
                "temporal": temporal_answers(parts.temporal),
                "database": database_answers(settings.database_url.get_secret_value()),
            }
        )
        if parts.redis is not None:
            monitoring.add_checks({"redis": parts.redis.ping})
        monitoring.add_stop_signal(stop.is_set)
        domains = domains_of(process, parts)
        metrics = Metrics(monitoring.registry)
        await stack.enter_async_context(
            running_workers(parts.temporal, domains, parts.wakeups, metrics=metrics, version=settings.version())
        )
        log.info("worker ready", process=process, port=settings.port)
        await serve_services(services_app(routes_of(domains), spans), host=settings.host, port=settings.port, stop=stop)
    log.info("worker stopped", process=process)


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0] not in PROCESSES:
        print(f"usage: python -m worker {'|'.join(PROCESSES)}", file=sys.stderr)
        return 2
    configure_logs()
    try:
        settings = WorkerSettings()
    except ValidationError as error:
        print(what_is_wrong(error), file=sys.stderr)
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
        print(f"The worker cannot listen on {settings.host}:{settings.port}: {reason_of(error)}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
