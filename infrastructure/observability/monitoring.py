"""Health, readiness and metrics of a process: /healthz, /readyz and /metrics, on a port that is not for clients."""

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

from infrastructure.tasks import concurrently, supervised

Check = Callable[[], Awaitable[object]]
"""Raises, or returns False, if the checked dependency is unavailable."""

_CHECK_SECONDS = 2.0
_STOP_SECONDS = 3.0
"""For requests in progress when the process stops: longer than ``graceful_timeout``."""
_HOST = "127.0.0.1"


class Monitoring:
    """The endpoints of that port.

    Args:
        vital: names of the checks without which the process cannot work at all.
        sdk: the URL at which Temporal's SDK serves its own metrics.
    """

    def __init__(self, *, vital: Iterable[str] = ("temporal",), sdk: str | None = None) -> None:
        self.registry = CollectorRegistry()
        self._vital = frozenset(vital)
        self._sdk = sdk
        self._checks: dict[str, Check] = {}
        self._is_stopping: list[Callable[[], bool]] = []

    def add_checks(self, checks: Mapping[str, Check]) -> None:
        """Report these checks, too, under their names."""
        self._checks.update(checks)

    def add_stop_signal(self, is_stopping: Callable[[], bool]) -> None:
        """Report the process as stopping as soon as this returns True."""
        self._is_stopping.append(is_stopping)

    async def health(self, _request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readiness(self, _request: Request) -> Response:
        """Report each check by name. 503 while a vital one fails or is missing, and once the process is stopping."""
        names = list(self._checks)
        there = dict(zip(names, await concurrently(*(_is_there(self._checks[name]) for name in names)), strict=True))
        is_stopping = any(each() for each in self._is_stopping)
        works = all(there.get(name, False) for name in self._vital) and not is_stopping
        status = "stopping" if is_stopping else "down" if not works else "ok" if all(there.values()) else "degraded"
        parts = {name: "ok" if is_there else "away" for name, is_there in there.items()}
        return JSONResponse({"status": status, "parts": parts}, status_code=200 if works else 503)

    async def metrics(self, _request: Request) -> Response:
        text = await asyncio.to_thread(generate_latest, self.registry)
        return Response(text + await self._of_the_sdk(), media_type=CONTENT_TYPE_LATEST)

    async def _of_the_sdk(self) -> bytes:
        if self._sdk is None:
            return b""
        try:
            async with _client(self._sdk) as http:
                return (await http.get(self._sdk, timeout=_CHECK_SECONDS)).content
        except httpx.HTTPError:
            return b""


class MonitoringPortTaken(Exception):
    """The port of the monitoring endpoints cannot be bound. The message names the port and the reason."""


@asynccontextmanager
async def serve_monitoring(monitoring: Monitoring, *, host: str, port: int) -> AsyncIterator[str]:
    """Serve the endpoints while the block runs; yield the URL. Port 0 is any free one. Raises MonitoringPortTaken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        raise MonitoringPortTaken(f"METRICS_PORT {port} cannot be had: {error.strerror}.") from error
    shown = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
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
    stop, is_over = asyncio.Event(), asyncio.Event()

    async def serve_until_stopped() -> None:
        with listening.dup() as taken_over:  # a restart must find the port still open
            config.bind = [f"fd://{taken_over.detach()}"]
        await serve(app, config, shutdown_trigger=stop.wait)  # type: ignore[arg-type]
        if stop.is_set():
            is_over.set()
            await asyncio.Event().wait()

    with listening:
        async with supervised(serve_until_stopped, name="monitoring"):
            try:
                yield shown
            finally:
                stop.set()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_STOP_SECONDS):
                        await is_over.wait()


def prometheus_runtime() -> tuple[Runtime, str]:
    """Return a runtime of Temporal's SDK that serves its metrics on the loopback interface, and the URL of these."""
    with socket.create_server((_HOST, 0)) as free:
        address = f"{_HOST}:{free.getsockname()[1]}"
    runtime = Runtime(telemetry=TelemetryConfig(metrics=PrometheusConfig(bind_address=address)))
    return runtime, f"http://{address}/metrics"


async def _is_there(check: Check) -> bool:
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            return await check() is not False
    except Exception:  # noqa: BLE001 - any failure means that the dependency is unavailable
        return False


def temporal_answers(client: Client) -> Check:
    return lambda: client.service_client.check_health(timeout=timedelta(seconds=_CHECK_SECONDS))


def http_answers(url: str) -> Check:
    """Return a check that the process at the URL responds."""

    async def ask() -> object:
        async with _client(url) as http:
            return (await http.get(f"{url}/healthz")).is_success

    return ask


def _client(url: str) -> httpx.AsyncClient:
    """Return a client that loads the certificate authorities only for https: loading them takes 20 ms."""
    return httpx.AsyncClient(trust_env=False, verify=url.startswith("https:"))
