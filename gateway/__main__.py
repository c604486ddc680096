"""``python -m gateway``: the web process, until SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import AsyncExitStack

from pydantic import ValidationError

from contracts.environment import what_is_wrong
from contracts.logs import configure_logs
from contracts.startup import StartFailure, reason_of
from contracts.temporal import leave
from contracts.tracing import traced
from gateway.app import create_app
from gateway.dependencies import Dependencies
from gateway.garbage import look_rarely
from gateway.server.serve import Tls, serve
from gateway.settings import Settings
from gateway.trusted_documents import BadManifest
from infrastructure.monitoring import Monitoring, MonitoringPortTaken, monitored, telling_runtime


async def run(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, stop.set)
    tls = Tls(settings.tls_cert, settings.tls_key) if settings.tls_cert and settings.tls_key else None
    runtime, sdk = telling_runtime() if settings.metrics_port is not None else (None, None)
    monitoring = Monitoring(sdk=sdk)
    async with AsyncExitStack() as stack:
        spans = stack.enter_context(traced("gateway"))
        if settings.metrics_port is not None:
            await stack.enter_async_context(monitored(monitoring, host=settings.host, port=settings.metrics_port))
        app = create_app(settings, Dependencies(monitoring=monitoring, runtime=runtime, spans=spans))
        await serve(
            app,
            drain=app.streams.drain,
            host=settings.host,
            port=settings.gateway_port,
            stop=stop,
            announce=look_rarely,
            drain_seconds=settings.drain_seconds,
            stall_seconds=settings.stall_seconds,
            keep_alive_seconds=settings.keep_alive_seconds,
            tls=tls,
        )


def main() -> int:
    configure_logs()
    try:
        settings = Settings()
    except ValidationError as error:
        print(what_is_wrong(error), file=sys.stderr)
        return 2
    try:
        asyncio.run(run(settings))
    except (BadManifest, MonitoringPortTaken) as error:
        print(error, file=sys.stderr)
        return 2
    except StartFailure as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f"The gateway cannot listen on {settings.host}:{settings.gateway_port}: {reason_of(error)}", file=sys.stderr
        )
        return 1
    return 0


if __name__ == "__main__":
    leave(main())
