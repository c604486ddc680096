"""The whole product for tests: the process of `make dev`, or separate processes with PostgreSQL and Redis."""

from __future__ import annotations

import base64
import os
import re
import secrets
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.collector import Collector
from tests.servers import HOST, running_postgres, running_redis, running_temporal, wait_until
from worker.dev.ports import free_port
from worker.dev.subprocesses import child_process

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Stack:
    """The addresses and processes of a running product.

    ``url``: the gateway; ``environment``: the variables of the processes, for tests that restart a process; ``urls``:
    all gateways, if there are several; ``monitoring``: the URLs of the monitoring endpoints by process; ``collector``:
    receives the traces, if tracing is enabled.
    """

    url: str
    temporal_address: str
    data_dir: Path
    processes: dict[str, subprocess.Popen[bytes]]
    environment: dict[str, str] = field(default_factory=dict)
    urls: tuple[str, ...] = ()
    monitoring: dict[str, str] = field(default_factory=dict)
    collector: Collector | None = None

    @property
    def graphql(self) -> str:
        return f"{self.url}/graphql"

    @property
    def websocket(self) -> str:
        return f"ws{self.graphql.removeprefix('http')}"


@contextmanager
def start_dev_stack(data_dir: Path, *, tree: Path = ROOT, **environment: str) -> Iterator[Stack]:
    """Run ``python -m worker.dev`` on free ports, yield when it is ready, and stop it by SIGTERM at the end."""
    ports = {"GATEWAY_PORT": "0", "TEMPORAL_PORT": "0", "TEMPORAL_UI_PORT": "0"}
    variables = plain_environment() | ports | {"DATA_DIR": str(data_dir)} | environment
    data_dir.mkdir(parents=True, exist_ok=True)
    log = data_dir / "stack.log"
    log.write_bytes(b"")
    command = ["sh", "-c", 'cd "$0" && exec "$1" -m worker.dev', str(tree), sys.executable]
    with child_process(command, log=log, environment=variables, grace_seconds=30) as process:
        wait_until(lambda: "\nready" in log.read_text(), process, log)
        text = log.read_text()
        yield Stack(
            url=_find(r"GraphQL +(http\S+)/graphql\s", text),
            temporal_address=_find(r"Temporal +(\S+:\d+)\s", text),
            data_dir=data_dir,
            processes={"dev": process},
            environment=variables,
        )


@contextmanager
def start_separate_stack(folder: Path, **others: str) -> Iterator[Stack]:
    """Run ``python -m gateway`` and ``python -m worker all`` with PostgreSQL, Redis, Temporal and the demo data."""
    with running_temporal() as temporal, running_redis() as redis_url, running_postgres() as postgres:
        gateway_port, worker_port = free_port(HOST), free_port(HOST)
        environment = plain_environment() | {
            "HOST": HOST,
            "ENVIRONMENT": "development",
            "DATABASE_URL": postgres.new_database(),
            "REDIS_URL": redis_url,
            "TEMPORAL_ADDRESS": temporal.address,
            "TEMPORAL_NAMESPACE": "default",
            "SECRET_KEY": secrets.token_hex(32),
            "SERVICE_KEY": secrets.token_hex(32),
            "CODEC_KEYS": f"test:{base64.b64encode(secrets.token_bytes(32)).decode()}",
            "SERVICES_URL": f"http://{HOST}:{worker_port}",
            "GATEWAY_PORT": str(gateway_port),
            "WORKER_PORT": str(worker_port),
            "DATA_DIR": str(folder),
        }
        environment |= others
        run_module("worker.migrate", environment, "--demo")
        with (
            start_module("worker", "all", environment=environment, log=folder / "worker.log") as worker,
            start_module("gateway", environment=environment, log=folder / "gateway.log") as gateway,
        ):
            url = f"http://{HOST}:{gateway_port}"
            wait_until(lambda: is_healthy(f"http://{HOST}:{worker_port}"), worker, folder / "worker.log")
            wait_until(lambda: is_healthy(url), gateway, folder / "gateway.log")
            yield Stack(url, temporal.address, folder, {"worker": worker, "gateway": gateway}, environment)


def plain_environment() -> dict[str, str]:
    """Return the environment of this process without variables that configure the product, make or pytest-xdist."""
    configuration = re.compile(
        r"(MAKE.*|MFLAGS|PYTEST_.*|(DATABASE|REDIS|SERVICES|STORAGE|SMTP|APP|PUBLIC)_URL|"
        r"\w+_KEYS?|\w+_PORT|PORT|HOST|DATA_DIR|ENVIRONMENT)$"
    )
    return {
        name: value
        for name, value in os.environ.items()
        if not configuration.match(name) and (not name.startswith(("TEMPORAL_", "OTEL_")) or name == "TEMPORAL_CLI")
    }


@contextmanager
def start_module(
    module: str, *arguments: str, environment: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Python module as a child process while the block runs."""
    command = [sys.executable, "-m", module, *arguments]
    with child_process(command, log=log, environment=environment, grace_seconds=30) as process:
        yield process


def run_module(module: str, environment: Mapping[str, str], *arguments: str) -> str:
    """Run a Python module to its end and return its output.

    Raises:
        AssertionError: The module fails; the message contains its output.
    """
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, env=dict(environment), cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _find(pattern: str, output: str) -> str:
    match = re.search(pattern, output)
    assert match, f"The output does not contain {pattern}:\n{output}"
    return match.group(1)
