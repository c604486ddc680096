"""The command ``python -m gateway``: run the web process until SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import AsyncExitStack

from pydantic import ValidationError

from gateway.app import create_app
from gateway.dependencies import Dependencies
from gateway.http.trusted_documents import InvalidManifest
from gateway.server.gc_tuning import tune_gc
from gateway.server.main import Tls, serve
from gateway.settings import Settings
from infrastructure.observability.logging import configure_logs
from infrastructure.observability.monitoring import (
    Monitoring,
    MonitoringPortTaken,
    prometheus_runtime,
    serve_monitoring,
)
from infrastructure.observability.tracing import tracing
from infrastructure.settings_validation import format_errors
from infrastructure.startup_errors import StartFailure, error_reason
from infrastructure.temporal.connection import exit_process


async def run(settings: Settings) -> None:
    """Serve the application until the process receives SIGINT or SIGTERM, then drain it.

    Raises:
        InvalidManifest: the manifest of trusted documents cannot be used.
        MonitoringPortTaken: the port for monitoring is in use.
        StartFailure: the application does not start.
        OSError: the port of the gateway is in use.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signal_number, stop.set)
    tls = Tls(settings.tls_cert, settings.tls_key) if settings.tls_cert and settings.tls_key else None
    runtime, sdk = prometheus_runtime() if settings.metrics_port is not None else (None, None)
    monitoring = Monitoring(sdk_metrics_url=sdk)
    async with AsyncExitStack() as stack:
        spans = stack.enter_context(tracing("gateway"))
        if settings.metrics_port is not None:
            await stack.enter_async_context(
                serve_monitoring(monitoring, host=settings.host, port=settings.metrics_port)
            )
        app = create_app(settings, Dependencies(monitoring=monitoring, runtime=runtime, spans=spans))
        await serve(
            app,
            drain=app.streams.drain,
            host=settings.host,
            port=settings.gateway_port,
            stop=stop,
            on_ready=tune_gc,
            drain_seconds=settings.drain_seconds,
            write_timeout_seconds=settings.write_timeout_seconds,
            keep_alive_seconds=settings.keep_alive_seconds,
            tls=tls,
        )


def main() -> int:
    """Run the web process and return its exit code: 2 for invalid settings, 1 for a failed start, else 0."""
    configure_logs()
    try:
        settings = Settings()
    except ValidationError as error:
        print(format_errors(error), file=sys.stderr)
        return 2
    try:
        asyncio.run(run(settings))
    except (InvalidManifest, MonitoringPortTaken) as error:
        print(error, file=sys.stderr)
        return 2
    except StartFailure as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f"The gateway cannot listen on {settings.host}:{settings.gateway_port}: {error_reason(error)}",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    exit_process(main())
