"""Servers for tests (Temporal, Redis, PostgreSQL), as child processes with free ports and temporary folders."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

from worker.dev.binaries import postgres_folder, redis_server, temporal_cli
from worker.dev.ports import free_port
from worker.dev.subprocesses import child_process
from worker.dev.temporal_server import TemporalServer, TemporalUnavailable, temporal_server

HOST = "127.0.0.1"


@contextmanager
def running_temporal(dynamic: Mapping[str, str] | None = None) -> Iterator[TemporalServer]:
    """Run a Temporal server. It is started again on other ports if another process takes one of the ports first."""
    with _folder("temporal") as folder, ExitStack() as stack:
        for attempts_left in reversed(range(3)):
            try:
                server = stack.enter_context(
                    temporal_server(port=free_port(HOST), ui_port=free_port(HOST), log=folder / "log", dynamic=dynamic)
                )
            except TemporalUnavailable:
                if not attempts_left:
                    raise AssertionError((folder / "log").read_text()[-2000:]) from None
            else:
                break
        yield server


async def reset_workflow(address: str, workflow_id: str, *, to: str = "FirstWorkflowTask") -> None:
    """Reset a workflow with Temporal's command line tool, as an operator does."""
    command = (str(temporal_cli()), "workflow", "reset", "--address", address, "--workflow-id", workflow_id)
    process = await asyncio.create_subprocess_exec(
        *command, "--type", to, "--reason", "a test", stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


@contextmanager
def running_redis(arguments: Sequence[str] = ()) -> Iterator[str]:
    """Run Redis with additional arguments and yield its URL."""
    port = free_port(HOST)
    with _folder("redis") as folder:
        command = [
            str(redis_server()),
            "--port",
            str(port),
            "--bind",
            HOST,
            "--dir",
            str(folder),
            "--save",
            "",
            "--appendonly",
            "no",
            *arguments,
        ]
        with child_process(command, log=folder / "log") as process:
            wait_until(lambda: is_listening(port), process, folder / "log")
            yield f"redis://{HOST}:{port}/0"


class Postgres:
    """A running PostgreSQL server."""

    def __init__(self, binaries: Path, port: int) -> None:
        self._psql = binaries / "psql"
        self.port = port

    def new_database(self) -> str:
        """Create an empty database and return its URL."""
        name = f"test_{uuid4().hex}"
        self.execute(f'CREATE DATABASE "{name}"')
        return f"postgres://postgres@{HOST}:{self.port}/{name}"

    def execute(self, statement: str) -> None:
        self._run("-c", statement)

    def run_file(self, file: Path, environment: Mapping[str, str]) -> None:
        """Run a script with ``psql``; the script may read the environment variables."""
        self._run("-f", str(file), environment=environment)

    def _run(self, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        command = [str(self._psql), "-h", HOST, "-p", str(self.port), "-U", "postgres", "-q", *arguments]
        variables = None if environment is None else {**os.environ, **environment}
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, env=variables)


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Run a PostgreSQL server, as the user nobody if the tests run as root, because PostgreSQL refuses that."""
    user = "nobody" if os.geteuid() == 0 else None
    port = free_port(HOST)
    with _folder("postgres") as folder:
        binaries = _reachable(postgres_folder(), folder, user)
        data = folder / "data"
        data.mkdir(mode=0o700)
        if user:
            shutil.chown(data, user)
        subprocess.run(
            [
                str(binaries / "initdb"),
                "-D",
                str(data),
                "-U",
                "postgres",
                "--auth",
                "trust",
                "--no-sync",
                "--encoding",
                "UTF8",
            ],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            user=user,
            extra_groups=None if user is None else [],
            cwd="/",
        )
        # The socket is in the temporary folder. Tests do not need the durability that fsync provides.
        options = ["-c", f"listen_addresses={HOST}", "-c", f"unix_socket_directories={data}", "-c", "fsync=off"]
        command = [str(binaries / "postgres"), "-D", str(data), "-p", str(port), *options]
        with child_process(command, log=folder / "log", user=user, stop_signal=signal.SIGINT) as process:
            server = Postgres(binaries, port)
            wait_until(lambda: _is_ready(server), process, folder / "log")
            yield server


def wait_until(
    is_ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, timeout_seconds: float = 60
) -> None:
    """Wait until ``is_ready`` returns True.

    Raises:
        AssertionError: The process ends or is not ready in time; the message contains the end of its log.
    """
    deadline = time.monotonic() + timeout_seconds
    while not is_ready():
        output = log.read_text(errors="replace")[-4000:]
        assert process.poll() is None, f"The process ended with {process.returncode} while it started:\n{output}"
        assert time.monotonic() < deadline, f"The process is not ready after {timeout_seconds} s:\n{output}"
        time.sleep(0.05)


@contextmanager
def _folder(name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=f"adx-{name}-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)  # a server that runs as the user nobody must be able to traverse it
        yield Path(folder)


def _reachable(binaries: Path, folder: Path, user: str | None) -> Path:
    """Return the folder of the programs, or of a copy with their libraries if the user cannot access the original."""
    if user is None or all(parent.stat().st_mode & 0o001 for parent in (binaries, *binaries.parents)):
        return binaries
    root = binaries.parent.parent  # the libraries of the package are beside this folder
    for part in (root, *root.parent.glob(f"{root.name}.libs")):
        shutil.copytree(part, folder / "package" / part.name)
    return folder / "package" / binaries.relative_to(root.parent)


def is_listening(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def _is_ready(server: Postgres) -> bool:
    try:
        server.execute("SELECT 1")
    except subprocess.CalledProcessError:
        return False
    return True
