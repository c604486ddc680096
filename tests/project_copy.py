"""Copies of the project's files that tests change and run commands in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.stack import ROOT, plain_environment


def copy_project(folder: Path, *, mypy_cache: Path) -> Path:
    """Copy all files that are not ignored by git, and link the virtual environment.

    Args:
        folder: The target folder.
        mypy_cache: A mypy cache, which several copies can share to be checked faster.
    """
    list_command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(list_command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():  # git also lists files that were deleted but not committed
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(Path(sys.executable).parents[1])
    mypy_cache.mkdir(exist_ok=True)
    (folder / ".mypy_cache").symlink_to(mypy_cache)
    return folder


def run_in(tree: Path, *command: str, **environment: str) -> str:
    """Run a command in the copy and return its output.

    Raises:
        AssertionError: The command fails; the message contains its output.
    """
    variables = plain_environment() | environment
    done = subprocess.run(command, cwd=tree, env=variables, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def read_files(tree: Path) -> dict[str, bytes]:
    """Return the contents of all files by path, without symbolic links and Python's caches."""
    found: dict[str, bytes] = {}
    for folder, _, names in os.walk(tree):
        paths = [Path(folder, name) for name in names]
        if "__pycache__" not in folder:
            found |= {str(path.relative_to(tree)): path.read_bytes() for path in paths if not path.is_symlink()}
    return found
