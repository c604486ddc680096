"""Monitoring endpoints of a process: /healthz, /readyz and /metrics, on a port that clients cannot reach."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import httpx
from hypercorn.asyncio import serve
from hypercorn.config import Config
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from temporalio.client import Client
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig

from infrastructure.tasks import run_concurrently, supervised

Check = Callable[[], Awaitable[object]]
"""Checks a dependency of the process: it raises an error or returns False if the dependency is unavailable."""

_CHECK_TIMEOUT_SECONDS = 2.0
_STOP_TIMEOUT_SECONDS = 3.0
"""Time for requests in progress when the process stops; longer than ``graceful_timeout`` of the server."""
_HOST = "127.0.0.1"


class Monitoring:
    """The monitoring endpoints and the registry of Prometheus metrics of one process.

    Args:
        critical: Names of the checks of dependencies without which the process cannot work at all.
        sdk_metrics_url: The URL at which Temporal's SDK serves its own metrics.
    """

    def __init__(self, *, critical: Iterable[str] = ("temporal",), sdk_metrics_url: str | None = None) -> None:
        self.registry = CollectorRegistry()
        self._critical = frozenset(critical)
        self._sdk_metrics_url = sdk_metrics_url
        self._checks: dict[str, Check] = {}
        self._is_stopping: list[Callable[[], bool]] = []

    def add_checks(self, checks: Mapping[str, Check]) -> None:
        """Add checks of dependencies, by the names under which /readyz reports them."""
        self._checks.update(checks)

    def add_stop_signal(self, is_stopping: Callable[[], bool]) -> None:
        """Add a function; /readyz reports the process as stopping as soon as the function returns True."""
        self._is_stopping.append(is_stopping)

    async def health(self, _request: Request) -> Response:
        """Respond 200 to /healthz: the process runs."""
        return JSONResponse({"status": "ok"})

    async def readiness(self, _request: Request) -> Response:
        """Respond to /readyz with the state of each dependency.

        The status is 503 while a critical dependency is unavailable or has no check yet, and once the process is
        stopping.
        """
        names = list(self._checks)
        results = await run_concurrently(*(_is_available(self._checks[name]) for name in names))
        available = dict(zip(names, results, strict=True))
        is_stopping = any(each() for each in self._is_stopping)
        is_ready = all(available.get(name, False) for name in self._critical) and not is_stopping
        is_complete = all(available.values())
        status = "stopping" if is_stopping else "down" if not is_ready else "ok" if is_complete else "degraded"
        states = {name: "ok" if is_available else "unavailable" for name, is_available in available.items()}
        return JSONResponse({"status": status, "dependencies": states}, status_code=200 if is_ready else 503)

    async def metrics(self, _request: Request) -> Response:
        """Respond to /metrics with the metrics of the process and of Temporal's SDK in the format of Prometheus."""
        text = await asyncio.to_thread(generate_latest, self.registry)
        return Response(text + await self._sdk_metrics(), media_type=CONTENT_TYPE_LATEST)

    async def _sdk_metrics(self) -> bytes:
        if self._sdk_metrics_url is None:
            return b""
        try:
            async with _client(self._sdk_metrics_url) as http:
                return (await http.get(self._sdk_metrics_url, timeout=_CHECK_TIMEOUT_SECONDS)).content
        except httpx.HTTPError:
            return b""


class MonitoringPortTaken(Exception):
    """The port of the monitoring endpoints cannot be bound. The message contains the port and the reason."""


@asynccontextmanager
async def serve_monitoring(monitoring: Monitoring, *, host: str, port: int) -> AsyncIterator[str]:
    """Serve the monitoring endpoints while the block runs, and yield their URL.

    Args:
        monitoring: The endpoints.
        host: The address to listen on.
        port: The port to listen on; 0 selects a free port.

    Raises:
        MonitoringPortTaken: The port cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        raise MonitoringPortTaken(f"METRICS_PORT {port} cannot be used: {error.strerror}.") from error
    url = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
    app = Starlette(
        routes=[
            Route("/healthz", monitoring.health),
            Route("/readyz", monitoring.readiness),
            Route("/metrics", monitoring.metrics),
        ]
    )
    config = Config()
    config.accesslog = None
    config.loglevel = "WARNING"
    config.graceful_timeout = 1
    stop, stopped = asyncio.Event(), asyncio.Event()

    async def serve_until_stopped() -> None:
        with listening.dup() as duplicate:  # hypercorn closes its socket; a restart needs the port to be open still
            config.bind = [f"fd://{duplicate.detach()}"]
        await serve(app, config, shutdown_trigger=stop.wait)  # type: ignore[arg-type]
        if stop.is_set():
            stopped.set()
            await asyncio.Event().wait()

    with listening:
        async with supervised(serve_until_stopped, name="monitoring"):
            try:
                yield url
            finally:
                stop.set()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_STOP_TIMEOUT_SECONDS):
                        await stopped.wait()


def prometheus_runtime() -> tuple[Runtime, str]:
    """Return a runtime of Temporal's SDK that serves its metrics on the loopback interface, and the metrics' URL."""
    with socket.create_server((_HOST, 0)) as free:
        address = f"{_HOST}:{free.getsockname()[1]}"
    runtime = Runtime(telemetry=TelemetryConfig(metrics=PrometheusConfig(bind_address=address)))
    return runtime, f"http://{address}/metrics"


async def _is_available(check: Check) -> bool:
    try:
        async with asyncio.timeout(_CHECK_TIMEOUT_SECONDS):
            return await check() is not False
    except Exception:  # noqa: BLE001 - any failure means that the dependency is unavailable
        return False


def temporal_check(client: Client) -> Check:
    """Return a check of the connection to Temporal."""
    return lambda: client.service_client.check_health(timeout=timedelta(seconds=_CHECK_TIMEOUT_SECONDS))


def http_check(url: str) -> Check:
    """Return a check that the process at the base URL responds to /healthz."""

    async def check() -> object:
        async with _client(url) as http:
            return (await http.get(f"{url}/healthz")).is_success

    return check


def _client(url: str) -> httpx.AsyncClient:
    """Return a client that loads the certificate authorities only for https, because loading them takes 20 ms."""
    return httpx.AsyncClient(trust_env=False, verify=url.startswith("https:"))
