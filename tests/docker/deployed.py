"""What docker/compose.yaml runs of ours, as processes: its commands, its environment, real servers from packages."""

from __future__ import annotations

import base64
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.collector import collecting
from tests.docker.compose import Service, services
from tests.servers import HOST, running_postgres, running_redis, running_temporal, wait_until
from tests.stack import Stack, healthy, plain_environment
from worker.dev.children import child
from worker.dev.ports import free_port

GATEWAYS = 2
WORKERS = {"auth": "8081", "users": "8082", "tenants": "8083", "files": "8084", "operations": "8085"}
"""The service of each domain and the port of its endpoints."""

PROXY = HOST
"""The address that the proxy has here. Who connects from another address of this machine comes past it."""

_LEFT_OUT = {"STORAGE_URL", "SMTP_URL", "APP_URL"}
"""Parts that no package brings: files and e-mail lie in folders then, as the settings say."""


@contextmanager
def start_deployed_stack(folder: Path) -> Iterator[Stack]:
    """Two gateways and a worker a domain, with the demo data; ``Stack.urls`` has both gateways."""
    variables = {
        "ENVIRONMENT": "development",
        "SECRET_KEY": secrets.token_hex(32),
        "SERVICE_KEY": secrets.token_hex(32),
        "CODEC_KEYS": f"test:{base64.b64encode(secrets.token_bytes(32)).decode()}",
    } | {f"{part}_PASSWORD": secrets.token_hex(8) for part in ("POSTGRES", "STORAGE", "GRAFANA")}
    ours = {name: service for name, service in services(variables).items() if service.is_ours}
    with (
        running_temporal() as temporal,
        running_redis() as redis_url,
        running_postgres() as postgres,
        collecting() as collector,
        ExitStack() as stack,
    ):
        ports = {name: free_port(HOST) for name in WORKERS}
        gateways = [free_port(HOST) for _ in range(GATEWAYS)]
        here = {
            "redis://redis:6379/0": redis_url,
            "temporal:7233": temporal.address,
            f"postgres://adx:{variables['POSTGRES_PASSWORD']}@postgres/adx": postgres.new_database(),
            "http://collector:4318": collector.url,
            "https://localhost": f"http://{HOST}:{gateways[0]}",
            ours["gateway"].environment["TRUSTED_PROXIES"]: f'["{PROXY}/32"]',
        } | {f"http://{name}:{port}": f"http://{HOST}:{ports[name]}" for name, port in WORKERS.items()}
        for job in ("migrate", "demo"):
            done = _start(stack, ours[job], here, folder / f"{job}.log", DATA_DIR=str(folder))
            assert done.wait(120) == 0, (folder / f"{job}.log").read_text()
        processes = {}
        told = {name: free_port(HOST) for name in (*WORKERS, *(f"gateway-{number}" for number in range(GATEWAYS)))}
        for name, port in ports.items():
            assert ours[name].environment["PORT"] == WORKERS[name]
            processes[name] = _start(
                stack, ours[name], here, folder / f"{name}.log", PORT=str(port), METRICS_PORT=str(told[name])
            )
        for number, port in enumerate(gateways):
            name = f"gateway-{number}"
            processes[name] = _start(
                stack,
                ours["gateway"],
                here,
                folder / f"{name}.log",
                GATEWAY_PORT=str(port),
                METRICS_PORT=str(told[name]),
            )
        for (name, process), port in zip(processes.items(), (*ports.values(), *gateways), strict=True):
            wait_until(lambda port=port: healthy(f"http://{HOST}:{port}"), process, folder / f"{name}.log")  # type: ignore[misc]
        urls = tuple(f"http://{HOST}:{port}" for port in gateways)
        yield Stack(
            urls[0],
            temporal.address,
            folder,
            processes,
            urls=urls,
            monitoring={name: f"http://{HOST}:{port}" for name, port in told.items()},
            collector=collector,
        )


def _start(
    stack: ExitStack, service: Service, here: Mapping[str, str], log: Path, **others: str
) -> subprocess.Popen[bytes]:
    """One process of the service, with the addresses of the parts that run here."""
    told = {name: here.get(value, value) for name, value in service.environment.items() if name not in _LEFT_OUT}
    own = {"HOST": HOST, "DATA_DIR": str(log.parent), "OTEL_BSP_SCHEDULE_DELAY": "100"}
    assert service.command[0] == "python"
    command = [sys.executable, *service.command[1:]]
    log.write_bytes(b"")
    return stack.enter_context(
        child(command, log=log, environment=plain_environment() | told | own | others, grace_seconds=30)
    )
