"""Run gateway, services and workers in one process, on one SQLite database, a cache in memory and a Temporal server."""

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

_LOOPBACK = "127.0.0.1"
_DRAIN_TIMEOUT_SECONDS = 1.0
"""Short, because a developer waits for the end of the process; clients need not reconnect one after another."""


class TemporalEnded(Exception):
    """The Temporal server ended before this process."""


@dataclass(frozen=True)
class StackResources:
    """The resources that are acquired before the event loop starts."""

    data_dir: Path
    keys: DevKeys
    listening: socket.socket
    temporal: TemporalServer


async def run(resources: StackResources, announce: Callable[[str], None]) -> None:
    """Run until a stop signal.

    Args:
        resources: the folder, keys, listening socket and Temporal server.
        announce: called with the address of the metrics when the product accepts requests.

    Raises:
        TemporalEnded: the Temporal server ended.
    """
    keys, temporal = resources.keys, resources.temporal
    database_url = f"sqlite://{resources.data_dir / 'adx.db'}"
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
        dependencies = WorkerDependencies(
            temporal=client,
            passwords=passwords,
            cache=cache,
            change_notifier=change_notifier,
            service_keys=service_keys,
            storage=open_storage(default_storage_url(resources.data_dir)),
            transfer_token_signer=TransferTokenSigner(service_keys),
            mailer=create_mailer(None, resources.data_dir / "mail"),
            cipher=SecretCipher(KeyRing.parse(keys.codec_keys)),
        )
        domains = domains_of("all", dependencies)
        await stack.enter_async_context(
            running_workers(client, domains, dependencies.change_notifier, metrics=Metrics(monitoring.registry))
        )
        services = httpx.ASGITransport(services_app(routes_of(domains), spans), raise_app_exceptions=False)
        settings = _gateway_settings(resources)
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
        metrics = await stack.enter_async_context(serve_monitoring(monitoring, host=_LOOPBACK, port=0))
        await stack.enter_async_context(
            essential(lambda: _stop_when_temporal_ends(temporal, stop), name="watch the Temporal server")
        )
        await serve(
            app,
            host=settings.host,
            port=settings.gateway_port,
            stop=stop,
            listening=resources.listening,
            on_ready=lambda: announce(f"{metrics}/metrics"),
            drain=app.streams.drain,
            drain_seconds=_DRAIN_TIMEOUT_SECONDS,
        )
        if not temporal.is_running:
            raise TemporalEnded(f"The Temporal server ended; its log is {resources.data_dir / 'temporal.log'}.")


def _gateway_settings(resources: StackResources) -> Settings:
    host, port = resources.listening.getsockname()[:2]
    return Settings(
        host=host,
        gateway_port=port,
        environment=Environment.DEVELOPMENT,
        temporal_address=resources.temporal.address,
        temporal_namespace="default",
        temporal_ui_url=resources.temporal.ui,
        redis_url=None,
        secret_key=SecretStr(resources.keys.secret_key),
        service_key=SecretStr(resources.keys.service_key),
        codec_keys=SecretStr(resources.keys.codec_keys),
        storage_url=default_storage_url(resources.data_dir),
    )


async def _stop_when_temporal_ends(temporal: TemporalServer, stop: asyncio.Event) -> None:
    while temporal.is_running:  # noqa: ASYNC110 - the end of a child process sets no event
        await asyncio.sleep(0.5)
    stop.set()
