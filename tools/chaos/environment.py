"""Start the product on real servers, each behind a proxy that simulates network faults, with accounts for clients."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
from redis.asyncio import Redis
from temporalio.client import Client as Temporal

from contracts.base import new_id, utc_now
from infrastructure.passwords import Passwords
from infrastructure.temporal.codec import KeyRing
from infrastructure.temporal.connection import connect
from tests.mail_server import MailServer, running_mail_server
from tests.s3 import BUCKET, running_s3
from tests.servers import HOST, running_postgres, wait_until
from tests.stack import is_healthy, plain_environment, run_module, start_module
from tools.chaos.crash_points import CrashPlans
from tools.chaos.proxy import ProxyNetwork
from tools.chaos.worker_processes import ready_processes
from worker.dev.binaries import redis_server
from worker.dev.ports import free_port
from worker.dev.subprocesses import child_process
from worker.dev.temporal_server import temporal_server

PASSWORD = "the password of all accounts"
COMPONENTS = ("temporal", "postgres", "redis", "services", "storage", "smtp")
"""The components behind proxies. ``services`` are the HTTP endpoints of the worker."""


@dataclass(frozen=True)
class Account:
    """An administrator of two tenants; ``home`` is the current one at the start."""

    email: str
    user_id: str
    home: str
    other: str


@dataclass
class ChaosEnvironment:
    """A running product with its servers, proxies, processes and accounts."""

    folder: Path
    variables: dict[str, str]
    network: ProxyNetwork
    accounts: list[Account]
    processes: dict[str, subprocess.Popen[bytes]]
    ports: dict[str, int]
    """The ports of the components without their proxies. ``clients`` is the port of the proxy before the gateway."""
    redis: ExitStack = field(default_factory=ExitStack)
    mail: MailServer | None = None
    """The mail server; None if e-mail is written to files."""

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.variables['GATEWAY_PORT']}"

    @property
    def clients_url(self) -> str:
        """The address of the gateway behind the proxy ``clients``."""
        return f"http://{HOST}:{self.ports['clients']}"

    @property
    def secret(self) -> bytes:
        return self.variables["SECRET_KEY"].encode()

    @property
    def plans(self) -> CrashPlans:
        return CrashPlans(self.folder / "plans")

    @property
    def files(self) -> Path:
        return self.folder / "files"

    async def temporal(self) -> Temporal:
        """Connect to Temporal without the proxy."""
        keys = KeyRing.parse(self.variables["CODEC_KEYS"])
        return await connect(address=f"{HOST}:{self.ports['temporal']}", namespace="default", keys=keys)

    async def database(self) -> asyncpg.Connection[asyncpg.Record]:
        """Connect to PostgreSQL without the proxy."""
        name = urlsplit(self.variables["DATABASE_URL"]).path.strip("/")
        return await asyncpg.connect(f"postgres://postgres@{HOST}:{self.ports['postgres']}/{name}")

    def redis_client(self) -> Redis:
        """Return a client of Redis without the proxy."""
        return Redis(host=HOST, port=self.ports["redis"])

    def deaths(self, role: str) -> int:
        """Return the number of processes of this role that were killed and replaced."""
        file = self.folder / f"{role}.deaths"
        return len(file.read_text().splitlines()) if file.exists() else 0

    def kill_one(self, role: str, index: int) -> None:
        """Kill one of the processes of this role; its parent replaces it."""
        running = sorted(ready_processes(self.folder, role))
        if running:
            os.kill(running[index % len(running)], signal.SIGKILL)

    def start_redis(self) -> None:
        """Start Redis on the same port, with its last snapshot."""
        command = [str(redis_server()), "--port", str(self.ports["redis"]), "--bind", HOST]
        command += ["--dir", str(self.folder), "--save", "", "--appendonly", "no"]
        log = self.folder / "redis.log"
        self.processes["redis"] = self.redis.enter_context(child_process(command, log=log))
        wait_until(lambda: _listens(self.ports["redis"]), self.processes["redis"], log)

    def stop_redis(self) -> None:
        """Kill Redis, as a power failure would."""
        self.processes["redis"].kill()
        self.processes["redis"].wait()
        self.redis.close()


@contextmanager
def start_chaos_environment(
    folder: Path, *, accounts: int, activity_processes: int = 3, external_servers: bool = False, **overrides: str
) -> Iterator[ChaosEnvironment]:
    """Start everything; stop it at the end of the block.

    Args:
        folder: the folder for logs, plans and data.
        accounts: the number of client accounts.
        activity_processes: the number of worker processes with crash points; 0: one ordinary process ``worker``.
        external_servers: whether files are stored in S3 and e-mail is sent to a mail server (``storage``, ``smtp``).
        overrides: further environment variables of all processes.
    """
    with ExitStack() as stack:
        network = stack.enter_context(ProxyNetwork())
        postgres = stack.enter_context(running_postgres())
        ports = {"temporal": free_port(HOST), "postgres": postgres.port, "redis": free_port(HOST)}
        temporal = stack.enter_context(
            temporal_server(port=ports["temporal"], ui_port=free_port(HOST), log=folder / "temporal.log")
        )
        proxies = {name: network.add_proxy(name, port) for name, port in ports.items()}
        services, gateway = free_port(HOST), free_port(HOST)
        proxies["services"] = network.add_proxy("services", services)
        database = urlsplit(postgres.new_database())
        variables = plain_environment() | {
            "HOST": HOST,
            "ENVIRONMENT": "development",
            "DATABASE_URL": f"postgres://postgres@{HOST}:{proxies['postgres']}{database.path}",
            "REDIS_URL": f"redis://{HOST}:{proxies['redis']}/0",
            "TEMPORAL_ADDRESS": f"{HOST}:{proxies['temporal']}",
            "TEMPORAL_NAMESPACE": "default",
            "SECRET_KEY": secrets.token_hex(32),
            "SERVICE_KEY": secrets.token_hex(32),
            "CODEC_KEYS": f"chaos:{base64.b64encode(secrets.token_bytes(32)).decode()}",
            "SERVICES_URL": f"http://{HOST}:{proxies['services']}",
            "WORKER_PORT": str(services),
            "GATEWAY_PORT": str(gateway),
            "DATA_DIR": str(folder),
            "REPAIR_DEADLINE_SECONDS": "6",
        }
        ports["clients"] = network.add_proxy("clients", gateway)
        environment = ChaosEnvironment(folder, variables, network, [], {"temporal": temporal.process}, ports)
        if external_servers:
            _start_external_servers(environment, stack)
        variables |= overrides
        stack.callback(environment.redis.close)
        environment.start_redis()
        run_module("worker.migrate", variables, "--demo")
        environment.accounts = asyncio.run(_create_accounts(environment, accounts))
        _start_processes(environment, stack, activity_processes)
        yield environment


def _start_external_servers(environment: ChaosEnvironment, stack: ExitStack) -> None:
    s3 = urlsplit(stack.enter_context(running_s3(environment.folder))).port
    assert s3 is not None
    environment.ports["storage"] = s3
    storage = environment.network.add_proxy("storage", s3)
    environment.mail = environment.network.run_server(running_mail_server())
    smtp = environment.network.add_proxy("smtp", environment.mail.port)
    environment.variables |= {
        "STORAGE_URL": f"s3://{BUCKET}?endpoint=http://{HOST}:{storage}&region=us-east-1",
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "SMTP_URL": f"smtp://{HOST}:{smtp}",
    }


def _start_processes(environment: ChaosEnvironment, stack: ExitStack, activity_processes: int) -> None:
    def start(name: str, module: str, *arguments: str) -> None:
        log = environment.folder / f"{name}.log"
        environment.processes[name] = stack.enter_context(
            start_module(module, *arguments, environment=environment.variables, log=log)
        )

    if activity_processes:
        for role, count in (("services", 1), ("workflows", 1), ("activities", activity_processes)):
            start(role, "tools.chaos.worker_processes", role, str(count))
        wait_until(
            lambda: (
                len(ready_processes(environment.folder, "activities")) == activity_processes
                and bool(ready_processes(environment.folder, "workflows"))
            ),
            environment.processes["activities"],
            environment.folder / "activities.log",
        )
    else:
        start("worker", "tools.chaos.task_counter", "worker", "all")
    start("gateway", "tools.chaos.task_counter", "gateway")
    for name, port in (("services" if activity_processes else "worker", "WORKER_PORT"), ("gateway", "GATEWAY_PORT")):
        address = f"http://{HOST}:{environment.variables[port]}"
        wait_until(lambda: is_healthy(address), environment.processes[name], environment.folder / f"{name}.log")  # noqa: B023


async def _create_accounts(environment: ChaosEnvironment, count: int) -> list[Account]:
    """Create administrators of both demo tenants, with the first as their current tenant."""
    passwords = Passwords()
    hashed = await passwords.hash(PASSWORD)
    passwords.close()
    database = await environment.database()
    tenants = {row["slug"]: row["id"] for row in await database.fetch("SELECT id, slug FROM tenants_tenant")}
    home, other = tenants["acme"], tenants["globex"]
    created = [Account(f"client{index}@example.com", new_id("usr"), home, other) for index in range(count)]
    now = utc_now()
    await database.executemany(
        "INSERT INTO users_user (id, email, email_key, name, mfa_enabled, tenant_id, created_at)"
        " VALUES ($1, $2, $2, $2, false, $3, $4)",
        [(each.user_id, each.email, home, now) for each in created],
    )
    await database.executemany(
        "INSERT INTO auth_credential (user_id, email, email_key, password_hash) VALUES ($1, $2, $2, $3)",
        [(each.user_id, each.email, hashed) for each in created],
    )
    both = [(each.user_id, tenant) for each in created for tenant in (home, other)]
    await database.executemany("INSERT INTO users_affiliation (user_id, tenant_id) VALUES ($1, $2)", both)
    await database.executemany(
        "INSERT INTO tenants_membership (user_id, tenant_id, role) VALUES ($1, $2, 'admin')", both
    )
    await database.close()
    return created


def _listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True
