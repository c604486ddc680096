"""How the environment is made from the lock, and what is said where it cannot be."""

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
    return checked_out(tmp_path)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout for what fails once there is a .venv: the first to ask makes it, which takes seconds."""
    return checked_out(tmp_path_factory.mktemp("begun"))


def checked_out(folder: Path) -> Path:
    for name in ("Makefile", "environment.sh", "requirements.lock"):
        shutil.copy(ROOT / name, folder)
    return folder


def make(checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    told = {name: value for name, value in os.environ.items() if not re.match(r"MAKE|MFLAGS|VIRTUAL_ENV", name)}
    return subprocess.run(
        ["make", "environment"], cwd=checkout, env=told | environment, capture_output=True, text=True, timeout=300
    )


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """What it says, make's own last line and the announcement aside."""
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if not line.startswith(("make", "Making"))]
    assert len(said) == 1, done.stderr
    return said[0]


@pytest.mark.parametrize(
    "lock",
    [
        pytest.param("this is no lock\n", id="nonsense"),
        pytest.param("anyio==4.0.0\n", id="no hash"),
        pytest.param("<<<<<<< ours\n", id="unmerged"),
    ],
)
def test_a_broken_lock_is_said_to_be_broken(begun: Path, lock: str) -> None:
    (begun / "requirements.lock").write_text(lock)
    assert complaint(make(begun)).startswith("requirements.lock cannot be installed: ")


def test_a_missing_lock_is_said_to_be_missing(checkout: Path) -> None:
    (checkout / "requirements.lock").unlink()
    assert "git checkout requirements.lock" in complaint(make(checkout))


def test_a_python_that_is_too_old_is_said_to_be_so(checkout: Path) -> None:
    assert "Python 3.11" in complaint(make(checkout, PYTHON="no-such-python"))


def test_the_lock_names_no_index_and_pins_everything_by_hash() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    assert "--index-url" not in lock
    pinned = re.findall(r"^\S+==\S+(?: ;[^\n]*)? \\\n    --hash=sha256:[0-9a-f]{64}", lock, re.MULTILINE)
    assert len(pinned) == len(re.findall(r"^\w", lock, re.MULTILINE))
