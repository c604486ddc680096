"""npm projects of the tests: installed once for each lock, and left out where there is no Node.js."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.explorer.build import MIN_NODE_VERSION, digest, node_version

CLIENTS = Path(__file__).parent


def installed(project: Path) -> Path:
    """The project with its packages; the test that asks is skipped, with the reason, where Node.js is missing."""
    version = node_version()
    if version is None or version < MIN_NODE_VERSION:
        pytest.skip(f"Node.js {MIN_NODE_VERSION} or newer is not on PATH.")
    install(project)
    return project


def install(project: Path) -> None:
    """``npm ci``, unless the packages are those of the lock already. CalledProcessError where it fails."""
    lock, mark = digest([project / "package-lock.json"]), project / "node_modules" / "installed-from.sha256"
    folder = os.open(project, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # two at once would take the packages from each other
        if not mark.is_file() or mark.read_text() != lock:
            options = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
            command = [shutil.which("npm") or "npm", "ci", *options]
            subprocess.run(command, cwd=project, check=True, stdout=subprocess.DEVNULL, timeout=600)
            mark.write_text(lock)
    finally:
        os.close(folder)


@asynccontextmanager
async def said_by(
    script: Path, *arguments: str, log: Path, folder: Path | None = None
) -> AsyncIterator[AsyncIterator[Any]]:
    """What ``node script`` says, a JSON value a line, until it ends; it ends with the block. Its stderr goes to log.

    It runs in ``folder``, or in that of the tests."""
    node = shutil.which("node") or "node"
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            node,
            str(script),
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            cwd=folder,
            limit=1024 * 1024,
        )
    assert process.stdout is not None
    lines = process.stdout

    async def values() -> AsyncIterator[Any]:
        async for line in lines:
            yield json.loads(line)

    try:
        yield values()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
