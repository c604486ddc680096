"""Gateway, services and workers in one process, around the one database, the one cache and the Temporal server."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import httpx
from pydantic import SecretStr

from activities.auth.totp_encryption import SecretCipher
from activities.notifications.mailer import create_mailer
from gateway.app import create_app
from gateway.dependencies import Dependencies
from gateway.server.main import serve
from gateway.settings import Settings
from infrastructure.caching.cache import MemoryCache
from infrastructure.change_notifications import LocalNotifier
from infrastructure.observability.monitoring import Monitoring, prometheus_runtime, serve_monitoring
from infrastructure.observability.tracing import tracing
from infrastructure.passwords import Passwords
from infrastructure.settings_validation import Environment
from infrastructure.signing.secret_keys import SecretKeys
from infrastructure.signing.transfer_tokens import TransferTokenSigner
from infrastructure.storage import default_storage_url, open_storage
from infrastructure.tasks import essential
from infrastructure.temporal.codec import KeyRing
from infrastructure.temporal.connection import connect, ensure_search_attributes
from worker.database import database, database_check, migrate
from worker.demo import seed_demo_data
from worker.dev.data_dir import DevKeys
from worker.dev.temporal_server import TemporalServer
from worker.http import services_app
from worker.metrics import Metrics
from worker.registry import WorkerDependencies, domains_of, routes_of
from worker.stop_signals import stop_on_signals
from worker.workers import running_workers

_HERE = "127.0.0.1"
_DRAIN_SECONDS = 1.0
"""Nobody waits at a terminal for clients to come back one after another."""


class TemporalEnded(Exception):
    """The Temporal server went away while we ran on it."""


@dataclass(frozen=True)
class StackResources:
    """What the stack stands on: everything that was claimed or started before its event loop."""

    data_dir: Path
    keys: DevKeys
    listening: socket.socket
    temporal: TemporalServer


async def run(grounds: StackResources, announce: Callable[[str], None]) -> None:
    """Run until a signal; ``announce`` is called once everything answers, with the address of the metrics.

    Raises TemporalEnded.
    """
    keys, temporal = grounds.keys, grounds.temporal
    database_url = f"sqlite://{grounds.data_dir / 'adx.db'}"
    async with AsyncExitStack() as stack:
        stop = stack.enter_context(stop_on_signals())
        spans = stack.enter_context(tracing("adx"))
        await migrate(database_url)
        await stack.enter_async_context(database(database_url))
        passwords = stack.enter_context(closing(Passwords()))
        await seed_demo_data(passwords)
        cache = MemoryCache()
        change_notifier = LocalNotifier()
        runtime, sdk_metrics = prometheus_runtime()
        monitoring = Monitoring(sdk_metrics_url=sdk_metrics)
        client = await connect(
            address=temporal.address,
            namespace=None,
            keys=KeyRing.parse(keys.codec_keys),
            interceptors=[spans.temporal_interceptor()] if spans else (),
            runtime=runtime,
        )
        await ensure_search_attributes(client)
        service_keys = SecretKeys(keys.service_key.encode())
        parts = WorkerDependencies(
            temporal=client,
            passwords=passwords,
            cache=cache,
            change_notifier=change_notifier,
            service_keys=service_keys,
            storage=open_storage(default_storage_url(grounds.data_dir)),
            transfers=TransferTokenSigner(service_keys),
            mail=create_mailer(None, grounds.data_dir / "mail"),
            cipher=SecretCipher(KeyRing.parse(keys.codec_keys)),
        )
        domains = domains_of("all", parts)
        await stack.enter_async_context(
            running_workers(client, domains, parts.change_notifier, metrics=Metrics(monitoring.registry))
        )
        services = httpx.ASGITransport(services_app(routes_of(domains), spans), raise_app_exceptions=False)
        settings = _gateway_settings(grounds)
        monitoring.add_checks({"database": database_check(database_url)})
        app = create_app(
            settings,
            Dependencies(
                services=services,
                cache=cache,
                change_notifier=change_notifier,
                monitoring=monitoring,
                runtime=runtime,
                spans=spans,
            ),
        )
        metrics = await stack.enter_async_context(serve_monitoring(monitoring, host=_HERE, port=0))
        await stack.enter_async_context(essential(lambda: _watch(temporal, stop), name="watch the Temporal server"))
        await serve(
            app,
            host=settings.host,
            port=settings.gateway_port,
            stop=stop,
            listening=grounds.listening,
            announce=lambda: announce(f"{metrics}/metrics"),
            drain=app.streams.drain,
            drain_seconds=_DRAIN_SECONDS,
        )
        if not temporal.is_running:
            raise TemporalEnded(f"The Temporal server ended; its log is {grounds.data_dir / 'temporal.log'}.")


def _gateway_settings(grounds: StackResources) -> Settings:
    host, port = grounds.listening.getsockname()[:2]
    return Settings(
        host=host,
        gateway_port=port,
        environment=Environment.DEVELOPMENT,
        temporal_address=grounds.temporal.address,
        temporal_namespace="default",
        temporal_ui_url=grounds.temporal.ui,
        redis_url=None,
        secret_key=SecretStr(grounds.keys.secret_key),
        service_key=SecretStr(grounds.keys.service_key),
        codec_keys=SecretStr(grounds.keys.codec_keys),
        storage_url=default_storage_url(grounds.data_dir),
    )


async def _watch(temporal: TemporalServer, stop: asyncio.Event) -> None:
    while temporal.is_running:  # noqa: ASYNC110 - a child's end is no event of ours
        await asyncio.sleep(0.5)
    stop.set()
