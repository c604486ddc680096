"""`make environment` creates .venv from the lock file and explains why it cannot."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.stack import ROOT


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the files that `make environment` needs."""
    return copy_checkout(tmp_path)


@pytest.fixture(scope="module")
def started_checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for failures after .venv exists, which takes seconds to create."""
    return copy_checkout(tmp_path_factory.mktemp("begun"))


def copy_checkout(folder: Path) -> Path:
    """Copy the files that `make environment` needs into the folder."""
    for name in ("Makefile", "environment.sh", "requirements.lock"):
        shutil.copy(ROOT / name, folder)
    return folder


def make(checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `make environment` in the folder."""
    variables = {name: value for name, value in os.environ.items() if not re.match(r"MAKE|MFLAGS|VIRTUAL_ENV", name)}
    return subprocess.run(
        ["make", "environment"], cwd=checkout, env=variables | environment, capture_output=True, text=True, timeout=300
    )


def error_line(completed: subprocess.CompletedProcess[str]) -> str:
    """Return the only line of the error output apart from those of make."""
    assert completed.returncode != 0
    lines = [line for line in completed.stderr.splitlines() if not line.startswith(("make", "Creating"))]
    assert len(lines) == 1, completed.stderr
    return lines[0]


@pytest.mark.parametrize(
    "lock",
    [
        pytest.param("this is no lock\n", id="nonsense"),
        pytest.param("anyio==4.0.0\n", id="no hash"),
        pytest.param("<<<<<<< ours\n", id="unmerged"),
    ],
)
def test_reports_a_broken_lock_file(started_checkout: Path, lock: str) -> None:
    (started_checkout / "requirements.lock").write_text(lock)
    assert error_line(make(started_checkout)).startswith("requirements.lock cannot be installed: ")


def test_reports_a_missing_lock_file(checkout: Path) -> None:
    (checkout / "requirements.lock").unlink()
    assert "git checkout requirements.lock" in error_line(make(checkout))


def test_reports_a_missing_or_outdated_python(checkout: Path) -> None:
    assert "Python 3.11" in error_line(make(checkout, PYTHON="no-such-python"))


def test_lock_file_has_no_index_and_pins_everything_by_hash() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    assert "--index-url" not in lock
    pinned = re.findall(r"^\S+==\S+(?: ;[^\n]*)? \\\n    --hash=sha256:[0-9a-f]{64}", lock, re.MULTILINE)
    assert len(pinned) == len(re.findall(r"^\w", lock, re.MULTILINE))
