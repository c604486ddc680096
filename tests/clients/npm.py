"""npm projects of the tests: packages are installed once per lock file, and tests are skipped without Node.js."""

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


def installed_project(project: Path) -> Path:
    """Install the packages of the project and return it; skip the test if Node.js is missing or too old."""
    version = node_version()
    if version is None or version < MIN_NODE_VERSION:
        pytest.skip(f"Node.js {MIN_NODE_VERSION} or newer is not on PATH.")
    install(project)
    return project


def install(project: Path) -> None:
    """Run ``npm ci`` unless the packages of the current lock file are installed.

    Raises:
        CalledProcessError: the installation failed.
    """
    lock, mark = digest([project / "package-lock.json"]), project / "node_modules" / "installed-from.sha256"
    folder = os.open(project, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # concurrent installations would break each other
        if not mark.is_file() or mark.read_text() != lock:
            options = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
            command = [shutil.which("npm") or "npm", "ci", *options]
            subprocess.run(command, cwd=project, check=True, stdout=subprocess.DEVNULL, timeout=600)
            mark.write_text(lock)
    finally:
        os.close(folder)


@asynccontextmanager
async def node_output(
    script: Path, *arguments: str, log: Path, folder: Path | None = None
) -> AsyncIterator[AsyncIterator[Any]]:
    """Run ``node script`` while the block runs; yield the JSON values that the script writes, one per line.

    The script runs in ``folder``, or in the folder of the tests. Its error output is appended to ``log``.
    """
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
