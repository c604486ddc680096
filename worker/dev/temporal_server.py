"""Run Temporal's development server as a child process, configured for low latency."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from worker.dev.binaries import temporal_cli
from worker.dev.ports import free_port
from worker.dev.subprocesses import child_process

_HOST = "127.0.0.1"
_MAX_POLLS_PER_SECOND = 1000
"""The default of 20 delays each step by up to 50 ms after a short burst."""


class TemporalUnavailable(Exception):
    """The server ended or did not respond within the deadline; the message names its log file."""


@dataclass(frozen=True)
class TemporalServer:
    """The addresses and the process of a running server."""

    address: str
    ui: str
    metrics: str
    process: subprocess.Popen[bytes]

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None


@contextmanager
def temporal_server(
    *,
    port: int,
    ui_port: int,
    log: Path,
    database: Path | None = None,
    deadline_seconds: float = 60,
    dynamic: Mapping[str, str] | None = None,
) -> Iterator[TemporalServer]:
    """Run a server while the block runs; it must be entered outside an event loop.

    Args:
        port: the port of the gRPC API.
        ui_port: the port of the web UI.
        log: the file for the server's output.
        database: the SQLite file with the server's data; None: in memory.
        deadline_seconds: the time that the server has to accept requests.
        dynamic: further dynamic configuration values, as JSON.

    Raises:
        BinaryMissing: the Temporal CLI is not installed.
        TemporalUnavailable: the server ended or did not respond within the deadline.
    """
    metrics_port = free_port(_HOST)
    command: list[str | Path] = [
        *(temporal_cli(), "server", "start-dev"),
        *("--ip", _HOST, "--port", str(port), "--ui-port", str(ui_port), "--metrics-port", str(metrics_port)),
        *("--dynamic-config-value", f"history.transferProcessorMaxPollRPS={_MAX_POLLS_PER_SECOND}"),
        *(part for name, value in (dynamic or {}).items() for part in ("--dynamic-config-value", f"{name}={value}")),
        *("--log-level", "warn"),
        *(() if database is None else ("--db-filename", database)),
    ]
    with child_process(command, log=log) as process:
        address = f"{_HOST}:{port}"
        asyncio.run(_wait_until_ready(address, process, log, deadline_seconds))
        yield TemporalServer(address, f"http://{_HOST}:{ui_port}", f"http://{_HOST}:{metrics_port}/metrics", process)


async def _wait_until_ready(address: str, process: subprocess.Popen[bytes], log: Path, deadline_seconds: float) -> None:
    try:
        async with asyncio.timeout(deadline_seconds):
            while not await _is_ready(address):
                if process.poll() is not None:
                    raise TemporalUnavailable(f"The Temporal server ended during its start; its log is {log}.")
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise TemporalUnavailable(
            f"The Temporal server does not respond within {deadline_seconds:.0f} s; its log is {log}."
        ) from None


async def _is_ready(address: str) -> bool:
    try:
        client = await Client.connect(address)
        await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=client.namespace))
    except (RuntimeError, RPCError):
        return False
    return True
