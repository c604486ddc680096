"""Serve the HTTP endpoints of the workflow service without running workflows: ``python -m
tools.benchmarks.operations_service``.

Measurements that start operations need the record of operations; the operations themselves must not run.
"""

from __future__ import annotations

import asyncio

from infrastructure.observability.logging import configure_logs
from infrastructure.temporal.connection import exit_process
from worker.__main__ import open_dependencies
from worker.http import serve_services, services_app
from worker.registry import domains_of, routes_of
from worker.settings import WorkerSettings
from worker.stop_signals import stop_on_signals


async def run(settings: WorkerSettings) -> None:
    with stop_on_signals() as stop:
        async with open_dependencies(settings) as dependencies:
            app = services_app(routes_of(domains_of("operations", dependencies)))
            await serve_services(app, host=settings.host, port=settings.worker_port, stop=stop)


if __name__ == "__main__":
    configure_logs()
    asyncio.run(run(WorkerSettings()))
    exit_process(0)
