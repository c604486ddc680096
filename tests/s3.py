"""An S3 server for tests: moto, in a virtual environment of its own because it needs other versions of packages."""

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
from worker.dev.subprocesses import child_process

_LOCK = Path(__file__).with_name("moto.lock")
_ENVIRONMENT = Path(sys.prefix) / "moto"
BUCKET = "adx"


@contextmanager
def running_s3(folder: Path) -> Iterator[str]:
    """Run the server and yield its endpoint. It has the bucket ``BUCKET`` and accepts any credentials."""
    port = free_port(HOST)
    endpoint = f"http://{HOST}:{port}"
    command = [str(_moto_python()), "-m", "moto.server", "-H", HOST, "-p", str(port)]
    with child_process(command, log=folder / "moto.log") as process:
        wait_until(lambda: _create_bucket(endpoint), process, folder / "moto.log")
        yield endpoint


def _create_bucket(endpoint: str) -> bool:
    request = urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT")
    try:
        with urllib.request.urlopen(request, timeout=5):
            return True
    except OSError:
        return False


def _moto_python() -> Path:
    """Return the interpreter of moto's environment, which is installed at first use and when the lock file changes."""
    stamp, digest = _ENVIRONMENT / "lock", hashlib.sha256(_LOCK.read_bytes()).hexdigest()
    with _LOCK.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes run concurrently, and only one may install
        if not stamp.exists() or stamp.read_text() != digest:
            _install()
            stamp.write_text(digest)
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
