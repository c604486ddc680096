"""A real S3 over HTTP, spoken by moto, in an environment of its own: in ours it would pull other packages down."""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers import HOST, wait_until
from worker.dev.ports import free_port
from worker.dev.subprocesses import child

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
    with _LOCK.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two at once would take it from each other
        if not stamp.exists() or stamp.read_text() != wanted:
            _install()
            stamp.write_text(wanted)
    return _ENVIRONMENT / "bin" / "python"


def _install() -> None:
    subprocess.run([sys.executable, "-m", "venv", "--clear", _ENVIRONMENT], check=True)
    pip: list[str | Path] = [
        _ENVIRONMENT / "bin" / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    subprocess.run([*pip, "--require-hashes", "--requirement", _LOCK], check=True)
