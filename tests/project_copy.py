"""Copies of this project's tree, to change and to run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.stack import ROOT, plain_environment


def copied_tree(folder: Path, *, mypy_cache: Path) -> Path:
    """What git would keep of it, on the same virtual environment. Whoever shares a ``mypy_cache`` is checked sooner."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():  # what was deleted since is listed too
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(Path(sys.executable).parents[1])
    mypy_cache.mkdir(exist_ok=True)
    (folder / ".mypy_cache").symlink_to(mypy_cache)
    return folder


def run_in(tree: Path, *command: str, **environment: str) -> str:
    """What it said; AssertionError with that where it fails."""
    told = plain_environment() | environment
    done = subprocess.run(command, cwd=tree, env=told, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def content(tree: Path) -> dict[str, bytes]:
    """Every file of it, links and what Python leaves behind apart."""
    found: dict[str, bytes] = {}
    for folder, _, names in os.walk(tree):
        paths = [Path(folder, name) for name in names]
        if "__pycache__" not in folder:
            found |= {str(path.relative_to(tree)): path.read_bytes() for path in paths if not path.is_symlink()}
    return found
