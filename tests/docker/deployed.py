"""Start the processes of docker/ with their commands, environments and accounts, on real servers from packages."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.collector import running_collector
from tests.docker import kubernetes
from tests.docker.compose import services
from tests.docker.processes import Process
from tests.servers import HOST, Postgres, running_postgres, running_redis, running_temporal, wait_until
from tests.stack import Stack, is_healthy, plain_environment
from worker.dev.ports import free_port
from worker.dev.subprocesses import child_process

DOCKER = Path(__file__).parent.parent.parent / "docker"
GATEWAYS = 2
WORKERS = {"auth": "8081", "users": "8082", "files": "8083", "operations": "8084", "tenants": "8085"}
"""The service of each domain and the port of its endpoints."""
PROXY = HOST
"""The address of the reverse proxy. A client with another address of this machine connects without the proxy."""

_LEFT_OUT = {"STORAGE_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "SMTP_URL", "APP_URL"}
"""Parts that no package brings: files and e-mail lie in folders then, as the settings say."""


def fresh_variables(folder: Path) -> dict[str, str]:
    """Run docker/new-env.sh; return the variables that it writes."""
    script = folder / "new-env.sh"
    shutil.copy(DOCKER / "new-env.sh", script)
    subprocess.run(["sh", script], check=True, capture_output=True)
    return dict(line.split("=", 1) for line in (folder / ".env").read_text().splitlines())


def compose_processes(variables: Mapping[str, str]) -> dict[str, Process]:
    ours = {name: service for name, service in services(variables).items() if service.is_ours}
    return {name: Process(service.command, service.environment) for name, service in ours.items()}


def kubernetes_processes(variables: Mapping[str, str]) -> dict[str, Process]:
    """Return the processes of the manifests; their Secrets hold the values that compose sets under the same names."""
    composed = compose_processes(variables)
    environments = {name: composed[name].environment for name in kubernetes.pods()}
    found = kubernetes.processes(
        {(f"adx-{name}", key): value for name, values in environments.items() for key, value in values.items()}
    )
    migrate = found["migrate"]
    demo = Process((*migrate.command, "--demo"), migrate.environment)
    development = {"ENVIRONMENT": "development"}
    return {
        name: Process(each.command, each.environment | development) for name, each in (found | {"demo": demo}).items()
    }


def redis_arguments(variables: Mapping[str, str]) -> list[str]:
    """Return the arguments of redis-server in compose.yaml."""
    program, *arguments = services(variables)["redis"].command
    assert program == "redis-server"
    return arguments


def make_roles(postgres: Postgres, variables: Mapping[str, str]) -> str:
    """Run docker/postgres/roles.sql; return host, port and database, which replace ``postgres/adx`` of compose."""
    postgres.run_file(DOCKER / "postgres" / "roles.sql", services(variables)["postgres"].environment)
    return f"{HOST}:{postgres.port}/adx"


@contextmanager
def start_deployed_stack(folder: Path, *, on_kubernetes: bool = False) -> Iterator[Stack]:
    """Start two gateways and one worker per domain, with the demo data; ``Stack.urls`` has both gateways.

    Each process has its environment of compose or Kubernetes, with its own accounts.
    """
    variables = fresh_variables(folder) | {"ENVIRONMENT": "development"}
    ours = (kubernetes_processes if on_kubernetes else compose_processes)(variables)
    with (
        running_temporal() as temporal,
        running_redis(redis_arguments(variables)) as redis_url,
        running_postgres() as postgres,
        running_collector() as collector,
        ExitStack() as stack,
    ):
        ports = {name: free_port(HOST) for name in WORKERS}
        gateways = [free_port(HOST) for _ in range(GATEWAYS)]
        here = {
            "@redis:6379/0": f"@{redis_url.removeprefix('redis://')}",
            "temporal-frontend.temporal:7233": temporal.address,
            "temporal:7233": temporal.address,
            "@postgres/adx": f"@{make_roles(postgres, variables)}",
            "http://collector.monitoring:4318": collector.url,
            "http://collector:4318": collector.url,
            "https://localhost": f"http://{HOST}:{gateways[0]}",
            "https://adx.example.com": f"http://{HOST}:{gateways[0]}",
            ours["gateway"].environment["TRUSTED_PROXIES"]: f'["{PROXY}/32"]',
        } | {f"http://{name}:{port}": f"http://{HOST}:{ports[name]}" for name, port in WORKERS.items()}
        for job in ("migrate", "demo"):
            done = _start(stack, ours[job], here, folder / f"{job}.log", DATA_DIR=str(folder))
            assert done.wait(120) == 0, (folder / f"{job}.log").read_text()
        processes = {}
        told = {name: free_port(HOST) for name in (*WORKERS, *(f"gateway-{number}" for number in range(GATEWAYS)))}
        for name, port in ports.items():
            assert ours[name].environment["WORKER_PORT"] == WORKERS[name]
            processes[name] = _start(
                stack, ours[name], here, folder / f"{name}.log", WORKER_PORT=str(port), METRICS_PORT=str(told[name])
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
            wait_until(lambda port=port: is_healthy(f"http://{HOST}:{port}"), process, folder / f"{name}.log")  # type: ignore[misc]
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
    stack: ExitStack, process: Process, here: Mapping[str, str], log: Path, **others: str
) -> subprocess.Popen[bytes]:
    """Start one process; replace the addresses of its environment by those of the servers started here."""
    shipped = {name: _here(value, here) for name, value in process.environment.items() if name not in _LEFT_OUT}
    own = {"HOST": HOST, "DATA_DIR": str(log.parent), "OTEL_BSP_SCHEDULE_DELAY": "100"}
    assert process.command[0] == "python"
    command = [sys.executable, *process.command[1:]]
    log.write_bytes(b"")
    return stack.enter_context(
        child_process(command, log=log, environment=plain_environment() | shipped | own | others, grace_seconds=30)
    )


def _here(value: str, here: Mapping[str, str]) -> str:
    for address, local in here.items():
        value = value.replace(address, local)
    return value
