"""A real S3 over HTTP, spoken by moto, in an environment of its own: in ours it would pull other packages down."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers import HOST, wait_until
from worker.dev.children import child
from worker.dev.ports import free_port

_LOCK = Path(__file__).with_name("moto.lock")
_ENVIRONMENT = Path(sys.prefix) / "moto"
BUCKET = "adx"


@contextmanager
def running_s3(folder: Path) -> Iterator[str]:
    """Its endpoint. It has the bucket ``BUCKET``; any credentials will do."""
    port = free_port(HOST)
    endpoint = f"http://{HOST}:{port}"
    command = [str(_moto_python()), "-m", "moto.server", "-H", HOST, "-p", str(port)]
    with child(command, log=folder / "moto.log") as process:
        wait_until(lambda: _makes_bucket(endpoint), process, folder / "moto.log")
        yield endpoint


def _makes_bucket(endpoint: str) -> bool:
    request = urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT")
    try:
        with urllib.request.urlopen(request, timeout=5):
            return True
    except OSError:
        return False


def _moto_python() -> Path:
    """Installed at first use, and again when its lock has changed."""
    stamp, wanted = _ENVIRONMENT / "lock", hashlib.sha256(_LOCK.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        building = _ENVIRONMENT.with_name(f"moto-{os.getpid()}")
        subprocess.run([sys.executable, "-m", "venv", building], check=True)
        pip: list[str | Path] = [
            building / "bin" / "python",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ]
        subprocess.run([*pip, "--require-hashes", "--requirement", _LOCK], check=True)
        (building / "lock").write_text(wanted)
        shutil.rmtree(_ENVIRONMENT, ignore_errors=True)
        building.rename(_ENVIRONMENT)
    return _ENVIRONMENT / "bin" / "python"
