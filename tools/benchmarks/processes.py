"""Start load processes, send them commands, and read the CPU time and memory of processes."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.stack import ROOT
from tools.benchmarks.environment import BenchmarkEnvironment

Json = dict[str, Any]


class LoadProcess:
    """A running process of ``tools.benchmarks.load``."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self._process = process
        self._folder = folder

    async def do(self, name: str = "", **command: object) -> Json:
        """Send a command; return the response. Raises RuntimeError with the end of the log if the process ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": name, **command}).encode() + b"\n")
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"A load process ended; see its log:\n{self._log.read_text()[-2000:]}")
        answer: Json = json.loads(line)
        return answer

    async def take_records(self) -> list[Any]:
        """Return the records since the last call."""
        path = self._folder / f"records-{uuid4().hex}"
        await self.do("take", path=str(path))
        records: list[Any] = json.loads(path.read_bytes())
        path.unlink()
        return records

    @property
    def _log(self) -> Path:
        return self._folder / "load.log"


@asynccontextmanager
async def start_load_process(
    environment: BenchmarkEnvironment, role: str, **config: object
) -> AsyncIterator[LoadProcess]:
    whole = environment.config() | config
    with (environment.folder / "load.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tools.benchmarks.load", role, json.dumps(whole)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=ROOT,
            limit=64 * 1024 * 1024,
        )
    try:
        yield LoadProcess(process, environment.folder)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of all threads of the process; 0 on systems without proc(5)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_kib(pid: int) -> float:
    """Return the resident memory of the process; 0 on systems without proc(5)."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024
