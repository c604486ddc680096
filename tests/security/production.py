"""The product as in production: separate processes, no demo data, and files with everything that they write."""

from __future__ import annotations

import base64
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from activities.auth import models as auth
from activities.tenants import models as tenants
from activities.users import models as users
from contracts.auth import Role
from contracts.base import new_id, utc_now
from contracts.email_addresses import email_key
from contracts.tenants import SubscriptionTier
from infrastructure.passwords import Passwords
from tests.collector import Collector, running_collector
from tests.servers import HOST, running_postgres, running_redis, wait_until
from tests.stack import Stack, is_healthy, plain_environment, run_module, start_module
from worker.database import database
from worker.dev.ports import free_port
from worker.dev.temporal_server import TemporalServer, temporal_server


@dataclass(frozen=True)
class Production:
    """A running production stack.

    ``logs`` is the folder with one log per process, ``temporal_database`` the database file of Temporal, and
    ``redis_commands`` the file with every command sent to Redis.
    """

    stack: Stack
    temporal: TemporalServer
    logs: Path
    temporal_database: Path
    redis_commands: Path
    collector: Collector


@contextmanager
def production(folder: Path) -> Iterator[Production]:
    """Run the production stack while the block runs."""
    logs, data, temporal_database_file = folder / "logs", folder / "data", folder / "temporal.db"
    logs.mkdir(parents=True)
    data.mkdir()
    with (
        temporal_server(
            port=free_port(HOST), ui_port=free_port(HOST), log=logs / "temporal.log", database=temporal_database_file
        ) as temporal,
        running_redis() as redis_url,
        running_postgres() as postgres,
        _recorded_commands(redis_url, folder / "redis.txt"),
        running_collector() as collector,
    ):
        gateway_port, worker_port = free_port(HOST), free_port(HOST)
        environment = plain_environment() | {
            "HOST": HOST,
            "ENVIRONMENT": "production",
            "DATABASE_URL": postgres.new_database(),
            "REDIS_URL": redis_url,
            "TEMPORAL_ADDRESS": temporal.address,
            "TEMPORAL_NAMESPACE": "default",
            "SECRET_KEY": secrets.token_hex(32),
            "SERVICE_KEY": secrets.token_hex(32),
            "CODEC_KEYS": f"one:{base64.b64encode(secrets.token_bytes(32)).decode()}",
            "SERVICES_URL": f"http://{HOST}:{worker_port}",
            "GATEWAY_PORT": str(gateway_port),
            "WORKER_PORT": str(worker_port),
            "DATA_DIR": str(data),
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        run_module("worker.migrate", environment)
        with (
            start_module("worker", "all", environment=environment, log=logs / "worker.log") as worker,
            start_module("gateway", environment=environment, log=logs / "gateway.log") as gateway,
        ):
            url = f"http://{HOST}:{gateway_port}"
            wait_until(lambda: is_healthy(f"http://{HOST}:{worker_port}"), worker, logs / "worker.log")
            wait_until(lambda: is_healthy(url), gateway, logs / "gateway.log")
            stack = Stack(url, temporal.address, data, {"worker": worker, "gateway": gateway}, environment)
            yield Production(stack, temporal, logs, temporal_database_file, folder / "redis.txt", collector)


@contextmanager
def _recorded_commands(redis_url: str, file: Path) -> Iterator[None]:
    """Write every command that Redis receives to the file, while the block runs."""
    address = urlsplit(redis_url)
    assert address.hostname is not None
    with socket.create_connection((address.hostname, address.port or 6379)) as connection, file.open("wb") as output:
        connection.sendall(b"MONITOR\r\n")

        def record() -> None:
            while data := connection.recv(65536):
                output.write(data)
                output.flush()

        recorder = threading.Thread(target=record)
        recorder.start()
        try:
            yield
        finally:
            connection.shutdown(socket.SHUT_RDWR)
            recorder.join()


async def create_two_tenants(stack: Stack, *, names: tuple[str, str], email: str, name: str, password: str) -> str:
    """Create a user who owns two tenants, directly in the database; return the id of the second tenant."""
    user_id, key, now = new_id("usr"), email_key(email), utc_now()
    ids = [new_id("ten") for _ in names]
    passwords = Passwords()
    async with database(stack.environment["DATABASE_URL"]):
        for id, tenant in zip(ids, names, strict=True):
            await tenants.Tenant.create(id=id, name=tenant, slug=id, subscription_tier=SubscriptionTier.ENTERPRISE)
            await tenants.Membership.create(user_id=user_id, tenant_id=id, role=Role.OWNER)
            await users.Affiliation.create(user_id=user_id, tenant_id=id)
        await users.User.create(id=user_id, email=email, email_key=key, name=name, tenant_id=ids[0], created_at=now)
        await auth.Credential.create(
            user_id=user_id, email=email, email_key=key, password_hash=await passwords.hash(password)
        )
    passwords.close()
    return ids[1]
