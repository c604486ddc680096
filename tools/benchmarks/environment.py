"""What is measured, and its servers: each a process of its own on this machine's loopback address."""

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
from tools.benchmarks.workload import Mover
from worker.dev.binaries import temporal_cli
from worker.dev.ports import free_port
from worker.dev.subprocesses import child

PEER = Path(__file__).parent / "peer"
DOMAINS = ("auth", "users", "tenants", "files")
"""Each in a process of its own; no worker takes the operations that are started, so that only starting is measured."""


@dataclass(frozen=True)
class Viewer:
    """Ada, signed in; ``other`` is a tenant that she could switch to."""

    token: str
    user_id: str
    tenant_id: str
    other: str


@dataclass(frozen=True)
class Ground:
    folder: Path
    environment: dict[str, str]
    gateway: subprocess.Popen[bytes]
    port: int
    metrics: str
    viewer: Viewer
    queue: str

    async def temporal(self) -> Temporal:
        keys = KeyRing.parse(self.environment["CODEC_KEYS"])
        return await connect(address=self.environment["TEMPORAL_ADDRESS"], namespace=None, keys=keys)

    async def mover(self) -> Mover:
        return Mover(await self.temporal(), self.queue, self.viewer.user_id, self.viewer.tenant_id)

    def max_long_polls(self) -> int:
        """How many polls of histories Temporal has open just now."""
        with urllib.request.urlopen(self.metrics, timeout=5) as answer:
            text = answer.read().decode()
        found = re.findall(r"^service_pending_requests\{[^}]*WorkflowExecutionHistory[^}]*\} (\d+)", text, re.MULTILINE)
        return sum(map(int, found))

    @contextmanager
    def peer(self, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
        """The Node gateway, and its port. Its packages are installed at its first start."""
        install(PEER)
        port = free_port(HOST)
        told = self.environment | {"PEER_PORT": str(port)} | environment
        with node([str(PEER / "gateway.mjs")], told, self.folder / "peer.log") as process:
            yield process, port

    @contextmanager
    def bare(self) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
        """Hypercorn with nothing behind it, and its port."""
        config = self.config() | {"port": free_port(HOST)}
        log = self.folder / "bare.log"
        with start_module(
            "tools.benchmarks.minimal_server", json.dumps(config), environment=self.environment, log=log
        ) as bare:
            wait_until(lambda: is_healthy(f"http://{HOST}:{config['port']}"), bare, log)
            yield bare, config["port"]

    def config(self) -> dict[str, Any]:
        """What a process that makes load, or bears it, must know."""
        return {
            "host": HOST,
            "port": self.port,
            "token": self.viewer.token,
            "temporal": self.environment["TEMPORAL_ADDRESS"],
            "keys": self.environment["CODEC_KEYS"],
            "user": self.viewer.user_id,
            "tenant": self.viewer.tenant_id,
            "other": self.viewer.other,
        }

    @contextmanager
    def instant_services(self, answers: dict[str, object]) -> Iterator[str]:
        """Services that answer at once, at this address."""
        port = free_port(HOST)
        command = [str(PEER / "instant.mjs"), str(port), json.dumps(answers)]
        with node(command, self.environment, self.folder / "instant.log"):
            yield f"http://{HOST}:{port}"

    @contextmanager
    def another_gateway(self, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
        with _gateway(self.environment | environment, self.folder) as running:
            yield running


@contextmanager
def ground(*, options: Sequence[str] = ()) -> Iterator[Ground]:
    """``options`` are dynamic configuration of the Temporal server, as ``frontend.namespaceCount=20000``."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="adx-bench-")))
        redis_url = stack.enter_context(running_redis())
        database = stack.enter_context(running_postgres()).new_database()
        address, metrics = stack.enter_context(_temporal(folder, options))
        ports = {domain: free_port(HOST) for domain in (*DOMAINS, "operations")}
        environment = plain_environment() | {
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
            "MAX_SOCKETS_PER_ADDRESS": "100000",  # all come from one
            "MAX_SOCKETS_PER_USER": "100000",
            "SOCKET_MESSAGES_PER_MINUTE": "1000000",
            "MAX_OPERATIONS_PER_SOCKET": "10000",
            "WORKSPACES_URL": f"http://{HOST}:{ports['operations']}",
            "OPERATIONS_URL": f"http://{HOST}:{ports['operations']}",
            **{f"{domain.upper()}_URL": f"http://{HOST}:{ports[domain]}" for domain in DOMAINS},
        }
        run_module("worker.migrate", environment, "--demo")
        for domain in DOMAINS:
            stack.enter_context(_worker(domain, ports[domain], environment, folder))
        gateway, port = stack.enter_context(_gateway(environment, folder))
        stack.enter_context(_worker("operations", ports["operations"], environment, folder))
        viewer = asyncio.run(_signed_in(Stack(f"http://{HOST}:{port}", address, folder, {})))
        queue = "moving"
        stack.enter_context(
            start_module("tools.benchmarks.workload", queue, environment=environment, log=folder / "moving.log")
        )
        yield Ground(folder, environment, gateway, port, metrics, viewer, queue)


@contextmanager
def node(command: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A script of Node.js that says when it is ready."""
    log.write_bytes(b"")
    with child([shutil.which("node") or "node", *command], log=log, environment=environment) as process:
        wait_until(lambda: "ready" in log.read_text(), process, log)
        yield process


async def _signed_in(stack: Stack) -> Viewer:
    ada = Client(stack)
    await ada.log_in("ada@example.com")
    answer = await ada.ask("{ viewer { user { id } tenantOverview { currentTenant { id } availableTenants { id } } } }")
    overview = answer["viewer"]["tenantOverview"]
    here = overview["currentTenant"]["id"]
    there = next(tenant["id"] for tenant in overview["availableTenants"] if tenant["id"] != here)
    assert ada.token is not None
    return Viewer(ada.token, answer["viewer"]["user"]["id"], here, there)


@contextmanager
def _worker(domain: str, port: int, environment: dict[str, str], folder: Path) -> Iterator[None]:
    log = folder / f"{domain}.log"
    with start_module("worker", domain, environment=environment | {"WORKER_PORT": str(port)}, log=log) as process:
        wait_until(lambda: is_healthy(f"http://{HOST}:{port}"), process, log)
        yield


@contextmanager
def _gateway(environment: dict[str, str], folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    port = free_port(HOST)
    log = folder / f"gateway-{port}.log"
    with start_module("gateway", environment=environment | {"GATEWAY_PORT": str(port)}, log=log) as process:
        wait_until(lambda: is_healthy(f"http://{HOST}:{port}"), process, log)
        yield process, port


@contextmanager
def _temporal(folder: Path, options: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Its address and that of its metrics: the development server, set to be quick as ``make dev`` sets it."""
    port, metrics_port = free_port(HOST), free_port(HOST)
    command: list[str | Path] = [
        *(temporal_cli(), "server", "start-dev", "--headless", "--log-level", "error"),
        *("--ip", HOST, "--port", str(port), "--metrics-port", str(metrics_port)),
    ]
    for option in ("history.transferProcessorMaxPollRPS=1000", *options):
        command += ["--dynamic-config-value", option]
    log = folder / "temporal.log"
    with child(command, log=log) as process:
        wait_until(lambda: _answers(f"{HOST}:{port}"), process, log)
        yield f"{HOST}:{port}", f"http://{HOST}:{metrics_port}/metrics"


def _answers(address: str) -> bool:
    try:
        asyncio.run(Temporal.connect(address))
    except RuntimeError:
        return False
    return True
