"""A Redis server for a single test, which the test can kill, pause and restart."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tests.servers import HOST, wait_until
from worker.dev.binaries import redis_server
from worker.dev.ports import free_port
from worker.dev.subprocesses import child_process


class RedisServer:
    """A Redis server process. After ``kill`` it can be started again with the data that it saved."""

    def __init__(self, folder: Path) -> None:
        self.url = f"redis://{HOST}:{free_port(HOST)}/0"
        self._folder = folder
        self._running = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0

    def start(self) -> None:
        port = self.url.rpartition(":")[2].partition("/")[0]
        command = [str(redis_server()), "--port", port, "--bind", HOST, "--dir", str(self._folder), "--save", ""]
        log = self._folder / "log"
        self._process = self._running.enter_context(child_process(command, log=log))
        wait_until(lambda: log.read_bytes().count(b"Ready to accept") > self._starts, self._process, log)
        self._starts += 1

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
        self._running.close()

    def send_signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def close(self) -> None:
        self._running.close()

    async def execute(self, *command: str) -> Any:
        """Execute a command over a connection of its own."""
        async with Redis.from_url(self.url, retry=Retry(NoBackoff(), 0)) as redis:
            return await redis.execute_command(*command)  # type: ignore[no-untyped-call]
