"""Two gateway processes, a worker and their servers, each of which a test can stop and start."""

from __future__ import annotations

import asyncio
import base64
import secrets
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from temporalio.client import Client as Temporal

from contracts.operations import Position
from infrastructure.signing.secret_keys import SecretKeys
from infrastructure.temporal.codec import KeyRing
from infrastructure.temporal.connection import connect
from resolvers.operations.cursors import Cursors
from tests.servers import HOST, is_listening, running_postgres, wait_until
from tests.stack import Stack, is_healthy, plain_environment, run_module, start_module
from worker.dev.binaries import redis_server
from worker.dev.ports import free_port
from worker.dev.subprocesses import child_process
from worker.dev.temporal_server import temporal_server


@dataclass
class Cluster:
    """The running processes by name: ``redis``, ``temporal``, ``worker``, ``gateway-0`` and ``gateway-1``.

    The methods block; ``run_in_thread`` calls them from an event loop. ``gateway_environment`` contains variables that
    only gateways get, from their next start on.
    """

    folder: Path
    environment: dict[str, str]
    temporal_port: int
    gateway_ports: tuple[int, ...]
    gateway_environment: dict[str, str] = field(default_factory=dict)
    running: dict[str, tuple[ExitStack, subprocess.Popen[bytes]]] = field(default_factory=dict)
    _executor: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "cluster"))

    async def run_in_thread(self, function: Callable[..., None], *arguments: object) -> None:
        """Call one of the methods in a thread while the event loop continues.

        The thread lives as long as the cluster, because on Linux a child process may end with the thread that started
        it.
        """
        await asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)

    def close(self) -> None:
        """Stop all processes: gateways first, then the servers, then the worker."""
        for name in sorted(self.running):
            stack, _ = self.running[name]
            stack.close()
        self._executor.shutdown()

    @property
    def stack(self) -> Stack:
        """The cluster as a stack with its first gateway."""
        address = self.environment["TEMPORAL_ADDRESS"]
        return Stack(f"http://{HOST}:{self.gateway_ports[0]}", address, self.folder, {}, self.environment)

    async def temporal(self) -> Temporal:
        """Return a Temporal client with the keys of gateway and worker."""
        keys = KeyRing.parse(self.environment["CODEC_KEYS"])
        return await connect(address=self.environment["TEMPORAL_ADDRESS"], namespace=None, keys=keys)

    def position(self, operation_id: str, cursor: str) -> Position:
        """Return the position that the gateways encoded in the cursor."""
        return Cursors(SecretKeys(self.environment["SECRET_KEY"].encode())).decode(operation_id, cursor)

    def start_redis(self) -> None:
        port = urlsplit(self.environment["REDIS_URL"]).port
        assert port is not None
        stack, log = ExitStack(), self.folder / "redis.log"
        command = [str(redis_server()), "--port", str(port), "--bind", HOST, "--dir", str(self.folder), "--save", ""]
        process = stack.enter_context(child_process(command, log=log))
        wait_until(lambda: is_listening(port), process, log)
        self.running["redis"] = (stack, process)

    def start_workload_worker(self) -> None:
        """Start a worker for the operations of the benchmarks, on the task queue ``moving``."""
        stack = ExitStack()
        process = stack.enter_context(
            start_module(
                "tools.benchmarks.workload", "moving", environment=self.environment, log=self.folder / "moving.log"
            )
        )
        self.running["moving"] = (stack, process)

    def start_temporal(self) -> None:
        stack = ExitStack()
        server = stack.enter_context(
            temporal_server(
                port=self.temporal_port,
                ui_port=free_port(HOST),
                log=self.folder / "temporal.log",
                database=self.folder / "temporal.db",
            )
        )
        self.running["temporal"] = (stack, server.process)

    def start_worker(self) -> None:
        self._start("worker", int(self.environment["WORKER_PORT"]), "worker", "all")

    def start_gateway(self, index: int) -> None:
        port = self.gateway_ports[index]
        self._start(f"gateway-{index}", port, "gateway", GATEWAY_PORT=str(port), **self.gateway_environment)

    def stop(self, name: str) -> None:
        """Terminate the process and wait until it has ended."""
        stack, process = self.running.pop(name)
        stack.close()
        assert process.returncode in (0, None), f"{name} ended with {process.returncode}; see {self.folder}"

    def kill(self, name: str) -> None:
        """Kill the process."""
        stack, process = self.running.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()
        stack.close()

    def restart_gateway(self, index: int) -> None:
        """Stop and start the gateway with this index."""
        self.stop(f"gateway-{index}")
        self.start_gateway(index)

    def _start(self, name: str, port: int, module: str, *arguments: str, **environment: str) -> None:
        log = self.folder / f"{name}.log"
        stack = ExitStack()
        process = stack.enter_context(
            start_module(module, *arguments, environment=self.environment | environment, log=log)
        )
        self.running[name] = (stack, process)
        wait_until(lambda: is_healthy(f"http://{HOST}:{port}"), process, log)


@contextmanager
def running_cluster(folder: Path, *, gateways: int = 2, **environment: str) -> Iterator[Cluster]:
    """Run a cluster with the demo data, on PostgreSQL, Redis and a Temporal server with a database file."""
    with running_postgres() as postgres:
        temporal_port, worker_port = free_port(HOST), free_port(HOST)
        base_environment = plain_environment() | {
            "HOST": HOST,
            "ENVIRONMENT": "development",
            "DATABASE_URL": postgres.new_database(),
            "REDIS_URL": f"redis://{HOST}:{free_port(HOST)}/0",
            "TEMPORAL_ADDRESS": f"{HOST}:{temporal_port}",
            "TEMPORAL_NAMESPACE": "default",
            "SECRET_KEY": secrets.token_hex(32),
            "SERVICE_KEY": secrets.token_hex(32),
            "CODEC_KEYS": f"test:{base64.b64encode(secrets.token_bytes(32)).decode()}",
            "SERVICES_URL": f"http://{HOST}:{worker_port}",
            "WORKER_PORT": str(worker_port),
            "DATA_DIR": str(folder),
            "MAX_SOCKETS_PER_ADDRESS": "100000",  # all clients have the same address
            "MAX_SOCKETS_PER_USER": "100000",
            "SOCKET_MESSAGES_PER_MINUTE": "1000000",
            "MAX_OPERATIONS_PER_SOCKET": "10000",
        }
        ports = tuple(free_port(HOST) for _ in range(gateways))
        cluster = Cluster(folder, base_environment | environment, temporal_port, ports)
        try:
            cluster.start_redis()
            cluster.start_temporal()
            run_module("worker.migrate", cluster.environment, "--demo")
            cluster.start_worker()
            for index in range(gateways):
                cluster.start_gateway(index)
            yield cluster
        finally:
            cluster.close()
