"""A whole Temporal in a child process: the CLI's dev server, set so that it is quick."""

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
from worker.dev.subprocesses import child

_HOST = "127.0.0.1"
_POLLS_A_SECOND = 1000
"""The dev server paces itself at 20, so that after a short burst each step waits up to 50 ms."""


class TemporalSilent(Exception):
    """The server ended or did not answer; the message says where its log is."""


@dataclass(frozen=True)
class TemporalServer:
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
    """A server that answers, kept in ``database`` or, where that is None, in memory. Enter it outside event loops.

    ``dynamic``: more of the server's dynamic settings, their values as JSON.

    Raises BinaryMissing or TemporalSilent.
    """
    metrics_port = free_port(_HOST)
    command: list[str | Path] = [
        *(temporal_cli(), "server", "start-dev"),
        *("--ip", _HOST, "--port", str(port), "--ui-port", str(ui_port), "--metrics-port", str(metrics_port)),
        *("--dynamic-config-value", f"history.transferProcessorMaxPollRPS={_POLLS_A_SECOND}"),
        *(part for name, value in (dynamic or {}).items() for part in ("--dynamic-config-value", f"{name}={value}")),
        *("--log-level", "warn"),
        *(() if database is None else ("--db-filename", database)),
    ]
    with child(command, log=log) as process:
        address = f"{_HOST}:{port}"
        asyncio.run(_wait(address, process, log, deadline_seconds))
        yield TemporalServer(address, f"http://{_HOST}:{ui_port}", f"http://{_HOST}:{metrics_port}/metrics", process)


async def _wait(address: str, process: subprocess.Popen[bytes], log: Path, deadline_seconds: float) -> None:
    try:
        async with asyncio.timeout(deadline_seconds):
            while not await _answers(address):
                if process.poll() is not None:
                    raise TemporalSilent(f"The Temporal server ended while it started; its log is {log}.")
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise TemporalSilent(f"The Temporal server is silent for {deadline_seconds:.0f} s; its log is {log}.") from None


async def _answers(address: str) -> bool:
    try:
        client = await Client.connect(address)
        await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=client.namespace))
    except (RuntimeError, RPCError):
        return False
    return True
