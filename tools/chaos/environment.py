"""The product on real parts, each behind a proxy that plays its network, with clients' accounts in the database."""

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
from tools.chaos.crash_points import Plans
from tools.chaos.proxy import Network
from tools.chaos.worker_processes import ready
from worker.dev.binaries import redis_server
from worker.dev.ports import free_port
from worker.dev.subprocesses import child
from worker.dev.temporal_server import temporal_server

PASSWORD = "a password for everybody"
PARTS = ("temporal", "postgres", "redis", "services", "storage", "smtp")
"""``services``: the worker's endpoints, as the gateway reaches them."""


@dataclass(frozen=True)
class Account:
    email: str
    user_id: str
    home: str
    other: str


@dataclass
class Ground:
    folder: Path
    environment: dict[str, str]
    network: Network
    accounts: list[Account]
    processes: dict[str, subprocess.Popen[bytes]]
    behind: dict[str, int]
    """The true ports of the parts, by their names; ``clients``: the port that leads to the gateway through a proxy."""
    redis: ExitStack = field(default_factory=ExitStack)
    mail: MailServer | None = None
    """Where it is a server that takes letters."""

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.environment['GATEWAY_PORT']}"

    @property
    def clients_url(self) -> str:
        """The same gateway, for clients behind a network that ``clients`` names."""
        return f"http://{HOST}:{self.behind['clients']}"

    @property
    def secret(self) -> bytes:
        return self.environment["SECRET_KEY"].encode()

    @property
    def plans(self) -> Plans:
        return Plans(self.folder / "plans")

    @property
    def files(self) -> Path:
        return self.folder / "files"

    async def temporal(self) -> Temporal:
        """Past the proxy."""
        keys = KeyRing.parse(self.environment["CODEC_KEYS"])
        return await connect(address=f"{HOST}:{self.behind['temporal']}", namespace="default", keys=keys)

    async def database(self) -> asyncpg.Connection[asyncpg.Record]:
        """Past the proxy."""
        name = urlsplit(self.environment["DATABASE_URL"]).path.strip("/")
        return await asyncpg.connect(f"postgres://postgres@{HOST}:{self.behind['postgres']}/{name}")

    def redis_client(self) -> Redis:
        """Past the proxy."""
        return Redis(host=HOST, port=self.behind["redis"])

    def deaths(self, role: str) -> int:
        """How many processes of this role have died and were replaced."""
        noted = self.folder / f"{role}.deaths"
        return len(noted.read_text().splitlines()) if noted.exists() else 0

    def kill_one(self, role: str, index: int) -> None:
        """SIGKILL one of the processes of this role; it is replaced."""
        running = sorted(ready(self.folder, role))
        if running:
            os.kill(running[index % len(running)], signal.SIGKILL)

    def start_redis(self) -> None:
        """On the port and the snapshot that it had."""
        command = [str(redis_server()), "--port", str(self.behind["redis"]), "--bind", HOST]
        command += ["--dir", str(self.folder), "--save", "", "--appendonly", "no"]
        log = self.folder / "redis.log"
        self.processes["redis"] = self.redis.enter_context(child(command, log=log))
        wait_until(lambda: _listens(self.behind["redis"]), self.processes["redis"], log)

    def stop_redis(self) -> None:
        """As if the machine had lost power."""
        self.processes["redis"].kill()
        self.processes["redis"].wait()
        self.redis.close()


@contextmanager
def chaos_ground(
    folder: Path, *, accounts: int, hands: int = 3, outside: bool = False, **told: str
) -> Iterator[Ground]:
    """``hands``: worker processes with crash points; 0 for the worker as it is, in one process named ``worker``.

    ``outside``: files lie in an S3 and letters go to a mail server, the parts ``storage`` and ``smtp``.
    """
    with ExitStack() as stack:
        network = stack.enter_context(Network())
        postgres = stack.enter_context(running_postgres())
        behind = {"temporal": free_port(HOST), "postgres": postgres.port, "redis": free_port(HOST)}
        temporal = stack.enter_context(
            temporal_server(port=behind["temporal"], ui_port=free_port(HOST), log=folder / "temporal.log")
        )
        before = {name: network.before(name, port) for name, port in behind.items()}
        services, gateway = free_port(HOST), free_port(HOST)
        before["services"] = network.before("services", services)
        database = urlsplit(postgres.new_database())
        environment = plain_environment() | {
            "HOST": HOST,
            "ENVIRONMENT": "development",
            "DATABASE_URL": f"postgres://postgres@{HOST}:{before['postgres']}{database.path}",
            "REDIS_URL": f"redis://{HOST}:{before['redis']}/0",
            "TEMPORAL_ADDRESS": f"{HOST}:{before['temporal']}",
            "TEMPORAL_NAMESPACE": "default",
            "SECRET_KEY": secrets.token_hex(32),
            "SERVICE_KEY": secrets.token_hex(32),
            "CODEC_KEYS": f"chaos:{base64.b64encode(secrets.token_bytes(32)).decode()}",
            "SERVICES_URL": f"http://{HOST}:{before['services']}",
            "WORKER_PORT": str(services),
            "GATEWAY_PORT": str(gateway),
            "DATA_DIR": str(folder),
            "REPAIR_DEADLINE_SECONDS": "6",
        }
        behind["clients"] = network.before("clients", gateway)
        ground = Ground(folder, environment, network, [], {"temporal": temporal.process}, behind)
        if outside:
            _go_outside(ground, stack)
        environment |= told
        stack.callback(ground.redis.close)
        ground.start_redis()
        run_module("worker.migrate", environment, "--demo")
        ground.accounts = asyncio.run(_made_accounts(ground, accounts))
        _start_processes(ground, stack, hands)
        yield ground


def _go_outside(ground: Ground, stack: ExitStack) -> None:
    s3 = urlsplit(stack.enter_context(running_s3(ground.folder))).port
    assert s3 is not None
    ground.behind["storage"] = s3
    storage = ground.network.before("storage", s3)
    ground.mail = ground.network.enter(running_mail_server())
    smtp = ground.network.before("smtp", ground.mail.port)
    ground.environment |= {
        "STORAGE_URL": f"s3://{BUCKET}?endpoint=http://{HOST}:{storage}&region=us-east-1",
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "SMTP_URL": f"smtp://{HOST}:{smtp}",
    }


def _start_processes(ground: Ground, stack: ExitStack, hands: int) -> None:
    def start(name: str, module: str, *arguments: str) -> None:
        log = ground.folder / f"{name}.log"
        ground.processes[name] = stack.enter_context(
            start_module(module, *arguments, environment=ground.environment, log=log)
        )

    if hands:
        for role, count in (("services", 1), ("sagas", 1), ("hands", hands)):
            start(role, "tools.chaos.worker_processes", role, str(count))
        wait_until(
            lambda: len(ready(ground.folder, "hands")) == hands and bool(ready(ground.folder, "sagas")),
            ground.processes["hands"],
            ground.folder / "hands.log",
        )
    else:
        start("worker", "tools.chaos.task_counter", "worker", "all")
    start("gateway", "tools.chaos.task_counter", "gateway")
    for name, port in (("services" if hands else "worker", "WORKER_PORT"), ("gateway", "GATEWAY_PORT")):
        address = f"http://{HOST}:{ground.environment[port]}"
        wait_until(lambda: is_healthy(address), ground.processes[name], ground.folder / f"{name}.log")  # noqa: B023


async def _made_accounts(ground: Ground, count: int) -> list[Account]:
    """Administrators of both demo tenants, who work in the first."""
    passwords = Passwords()
    hashed = await passwords.hash(PASSWORD)
    passwords.close()
    database = await ground.database()
    tenants = {row["slug"]: row["id"] for row in await database.fetch("SELECT id, slug FROM tenants_tenant")}
    home, other = tenants["acme"], tenants["globex"]
    made = [Account(f"client{index}@example.com", new_id("usr"), home, other) for index in range(count)]
    now = utc_now()
    await database.executemany(
        "INSERT INTO users_user (id, email, email_key, name, mfa_enabled, tenant_id, created_at)"
        " VALUES ($1, $2, $2, $2, false, $3, $4)",
        [(each.user_id, each.email, home, now) for each in made],
    )
    await database.executemany(
        "INSERT INTO auth_credential (user_id, email, email_key, password_hash) VALUES ($1, $2, $2, $3)",
        [(each.user_id, each.email, hashed) for each in made],
    )
    both = [(each.user_id, tenant) for each in made for tenant in (home, other)]
    await database.executemany("INSERT INTO users_affiliation (user_id, tenant_id) VALUES ($1, $2)", both)
    await database.executemany(
        "INSERT INTO tenants_membership (user_id, tenant_id, role) VALUES ($1, $2, 'admin')", both
    )
    await database.close()
    return made


def _listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True
