"""Start the product and its servers for benchmarks, each in its own process on the loopback address."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import secrets
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from temporalio.client import Client as Temporal

from infrastructure.temporal.codec import KeyRing
from infrastructure.temporal.connection import connect
from tests.clients.npm import install
from tests.end_to_end.client import Client
from tests.servers import HOST, running_postgres, running_redis, wait_until
from tests.stack import Stack, is_healthy, plain_environment, run_module, start_module
from tools.benchmarks.workload import WorkloadStarter
from worker.dev.binaries import temporal_cli
from worker.dev.ports import free_port
from worker.dev.subprocesses import child_process

PEER = Path(__file__).parent / "peer"
DOMAINS = ("auth", "users", "tenants", "files")
"""The domains with a worker process each, besides ``operations``."""


@dataclass(frozen=True)
class Viewer:
    """A signed-in user; ``other`` is a tenant to which the user may switch."""

    token: str
    user_id: str
    tenant_id: str
    other: str


@dataclass(frozen=True)
class BenchmarkEnvironment:
    """A running product. ``metrics`` is the address of Temporal's metrics, ``queue`` the task queue of the workload."""

    folder: Path
    variables: dict[str, str]
    gateway: subprocess.Popen[bytes]
    port: int
    metrics: str
    viewer: Viewer
    queue: str

    async def temporal(self) -> Temporal:
        keys = KeyRing.parse(self.variables["CODEC_KEYS"])
        return await connect(address=self.variables["TEMPORAL_ADDRESS"], namespace=None, keys=keys)

    async def workload_starter(self) -> WorkloadStarter:
        return WorkloadStarter(await self.temporal(), self.queue, self.viewer.user_id, self.viewer.tenant_id)

    def open_long_polls(self) -> int:
        """Return the number of history long-polls that are open in Temporal now."""
        with urllib.request.urlopen(self.metrics, timeout=5) as answer:
            text = answer.read().decode()
        found = re.findall(r"^service_pending_requests\{[^}]*WorkflowExecutionHistory[^}]*\} (\d+)", text, re.MULTILINE)
        return sum(map(int, found))

    @contextmanager
    def peer(self, **overrides: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
        """Start the peer gateway in Node.js; yield its process and port. The first start installs its packages."""
        install(PEER)
        port = free_port(HOST)
        variables = self.variables | {"PEER_PORT": str(port)} | overrides
        with node([str(PEER / "gateway.mjs")], variables, self.folder / "peer.log") as process:
            yield process, port

    @contextmanager
    def minimal_server(self) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
        """Start the minimal server; yield its process and port."""
        config = self.config() | {"port": free_port(HOST)}
        log = self.folder / "bare.log"
        with start_module(
            "tools.benchmarks.minimal_server", json.dumps(config), environment=self.variables, log=log
        ) as minimal_server:
            wait_until(lambda: is_healthy(f"http://{HOST}:{config['port']}"), minimal_server, log)
            yield minimal_server, config["port"]

    def config(self) -> dict[str, Any]:
        """Return the configuration of load processes and of the minimal server."""
        return {
            "host": HOST,
            "port": self.port,
            "token": self.viewer.token,
            "temporal": self.variables["TEMPORAL_ADDRESS"],
            "keys": self.variables["CODEC_KEYS"],
            "user": self.viewer.user_id,
            "tenant": self.viewer.tenant_id,
            "other": self.viewer.other,
        }

    @contextmanager
    def instant_services(self, answers: dict[str, object]) -> Iterator[str]:
        """Start a server that responds with constant bodies; yield its address."""
        port = free_port(HOST)
        command = [str(PEER / "instant.mjs"), str(port), json.dumps(answers)]
        with node(command, self.variables, self.folder / "instant.log"):
            yield f"http://{HOST}:{port}"

    async def sign_in(self) -> Viewer:
        """Sign in with a session of its own, while a worker of the workflow service runs."""
        stack = Stack(f"http://{HOST}:{self.port}", self.variables["TEMPORAL_ADDRESS"], self.folder, {})
        return await _sign_in(stack)

    @contextmanager
    def switch_workers(self) -> Iterator[None]:
        """Start a worker of the workflow service, and the worker of the empty switch."""
        log = self.folder / "empty-switch.log"
        with (
            _worker("operations", free_port(HOST), self.variables, self.folder),
            start_module("tools.benchmarks.empty_switch", environment=self.variables, log=log),
        ):
            yield

    @contextmanager
    def another_gateway(self, **overrides: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
        with _gateway(self.variables | overrides, self.folder) as running:
            yield running


@contextmanager
def start_benchmark_environment(*, options: Sequence[str] = ()) -> Iterator[BenchmarkEnvironment]:
    """Start everything; stop it at the end of the block.

    Args:
        options: dynamic configuration of the Temporal server, for example ``frontend.namespaceCount=20000``.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="adx-bench-")))
        redis_url = stack.enter_context(running_redis())
        database = stack.enter_context(running_postgres()).new_database()
        address, metrics = stack.enter_context(_temporal(folder, options))
        ports = {domain: free_port(HOST) for domain in (*DOMAINS, "operations")}
        variables = plain_environment() | {
            "HOST": HOST,
            "ENVIRONMENT": "development",
            "RESPONSE_TRACE": "off",
            "DATABASE_URL": database,
            "REDIS_URL": redis_url,
            "TEMPORAL_ADDRESS": address,
            "TEMPORAL_NAMESPACE": "default",
            "SECRET_KEY": secrets.token_hex(32),
            "SERVICE_KEY": secrets.token_hex(32),
            "CODEC_KEYS": f"bench:{base64.b64encode(secrets.token_bytes(32)).decode()}",
            "DATA_DIR": str(folder),
            **({"MAX_LONG_POLLS": "5000"} if options else {}),
            "MAX_SOCKETS_PER_ADDRESS": "100000",  # all connections come from one address
            "MAX_SOCKETS_PER_USER": "100000",
            "SOCKET_MESSAGES_PER_MINUTE": "1000000",
            "MAX_OPERATIONS_PER_SOCKET": "10000",
            "WORKSPACES_URL": f"http://{HOST}:{ports['tenants']}",
            "OPERATIONS_URL": f"http://{HOST}:{ports['operations']}",
            **{f"{domain.upper()}_URL": f"http://{HOST}:{ports[domain]}" for domain in DOMAINS},
        }
        run_module("worker.migrate", variables, "--demo")
        for domain in DOMAINS:
            stack.enter_context(_worker(domain, ports[domain], variables, folder))
        gateway, port = stack.enter_context(_gateway(variables, folder))
        with _worker("operations", ports["operations"], variables, folder):
            viewer = asyncio.run(_sign_in(Stack(f"http://{HOST}:{port}", address, folder, {})))
        stack.enter_context(_operations_service(ports["operations"], variables, folder))
        queue = "workload"
        stack.enter_context(
            start_module("tools.benchmarks.workload", queue, environment=variables, log=folder / "workload.log")
        )
        yield BenchmarkEnvironment(folder, variables, gateway, port, metrics, viewer, queue)


@contextmanager
def node(command: list[str], variables: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a script of Node.js and wait until it prints ``ready``."""
    log.write_bytes(b"")
    with child_process([shutil.which("node") or "node", *command], log=log, environment=variables) as process:
        wait_until(lambda: "ready" in log.read_text(), process, log)
        yield process


async def _sign_in(stack: Stack) -> Viewer:
    ada = Client(stack)
    await ada.log_in("ada@example.com")
    answer = await ada.execute(
        "{ viewer { user { id } tenantOverview { currentTenant { id } availableTenants { id } } } }"
    )
    overview = answer["viewer"]["tenantOverview"]
    here = overview["currentTenant"]["id"]
    there = next(tenant["id"] for tenant in overview["availableTenants"] if tenant["id"] != here)
    assert ada.token is not None
    return Viewer(ada.token, answer["viewer"]["user"]["id"], here, there)


@contextmanager
def _worker(domain: str, port: int, variables: dict[str, str], folder: Path) -> Iterator[None]:
    log = folder / f"{domain}.log"
    with start_module("worker", domain, environment=variables | {"WORKER_PORT": str(port)}, log=log) as process:
        wait_until(lambda: is_healthy(f"http://{HOST}:{port}"), process, log)
        yield


@contextmanager
def _operations_service(port: int, variables: dict[str, str], folder: Path) -> Iterator[None]:
    """Serve the endpoints of the workflow service without its worker: started operations do not run."""
    log = folder / "operations-service.log"
    with start_module(
        "tools.benchmarks.operations_service", environment=variables | {"WORKER_PORT": str(port)}, log=log
    ) as process:
        wait_until(lambda: is_healthy(f"http://{HOST}:{port}"), process, log)
        yield


@contextmanager
def _gateway(variables: dict[str, str], folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    port = free_port(HOST)
    log = folder / f"gateway-{port}.log"
    with start_module("gateway", environment=variables | {"GATEWAY_PORT": str(port)}, log=log) as process:
        wait_until(lambda: is_healthy(f"http://{HOST}:{port}"), process, log)
        yield process, port


@contextmanager
def _temporal(folder: Path, options: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Start the development server, configured as by ``make dev``; yield its address and that of its metrics."""
    port, metrics_port = free_port(HOST), free_port(HOST)
    command: list[str | Path] = [
        *(temporal_cli(), "server", "start-dev", "--headless", "--log-level", "error"),
        *("--ip", HOST, "--port", str(port), "--metrics-port", str(metrics_port)),
    ]
    for option in ("history.transferProcessorMaxPollRPS=1000", *options):
        command += ["--dynamic-config-value", option]
    log = folder / "temporal.log"
    with child_process(command, log=log) as process:
        wait_until(lambda: _is_ready(f"{HOST}:{port}"), process, log)
        yield f"{HOST}:{port}", f"http://{HOST}:{metrics_port}/metrics"


def _is_ready(address: str) -> bool:
    try:
        asyncio.run(Temporal.connect(address))
    except RuntimeError:
        return False
    return True
