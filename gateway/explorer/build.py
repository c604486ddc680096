"""The command that builds the page of GraphiQL into ``dist`` with npm, if its sources have changed.

Usage: ``python -m gateway.explorer.build``.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

APP = Path(__file__).parent / "app"
MIN_NODE_VERSION = 20
COMMAND_TIMEOUT_SECONDS = 900.0
"""Timeout of one npm command. The first one downloads about 60 MB."""


class BuildFailed(Exception):
    """An npm command failed or timed out. ``output`` is the output of the command."""

    def __init__(self, message: str, output: str) -> None:
        super().__init__(message)
        self.output = output


class Explorer:
    """The npm project of GraphiQL.

    Args:
        app: the folder of the npm project; the page is built into its sibling folder ``dist``.
    """

    def __init__(self, app: Path) -> None:
        self.app = app
        self.dist = app.parent / "dist"
        self._sources_mark = self.dist / "built-from.sha256"
        self._packages_mark = app / "node_modules" / "installed-from.sha256"

    def is_current(self) -> bool:
        """Return whether ``dist`` was built from the present sources."""
        return _has_content(self._sources_mark, digest(_sources(self.app))) and (self.dist / "index.html").is_file()

    def build(self, npm: str) -> None:
        """Install the packages if the lock file has changed, and build the page.

        Args:
            npm: the path of npm.

        Raises:
            BuildFailed: an npm command failed. The next call tries again.
        """
        sources = digest(_sources(self.app))
        packages = digest([self.app / "package-lock.json"])
        if not _has_content(self._packages_mark, packages):
            # No package needs an install script, and a script that does not run cannot do harm.
            # --include=dev: NODE_ENV=production would omit Vite.
            self._run(npm, "ci", "--include=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
            self._packages_mark.write_text(packages)
        self._run(npm, "run", "--silent", "build")
        self._sources_mark.write_text(sources)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold an exclusive lock while the block runs: two simultaneous builds would replace each other's packages."""
        folder = os.open(self.app, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def _run(self, *command: str) -> None:
        name = " ".join(["npm", *command[1:2]])
        try:
            completed = subprocess.run(
                command,
                cwd=self.app,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=COMMAND_TIMEOUT_SECONDS,
            )
        except subprocess.TimeoutExpired as timeout:
            raise BuildFailed(
                f"`{name}` did not end within {COMMAND_TIMEOUT_SECONDS:.0f} s.", str(timeout.output or "")
            ) from timeout
        if completed.returncode != 0:
            raise BuildFailed(f"`{name}` failed with exit code {completed.returncode}.", completed.stdout)


def digest(files: Sequence[Path]) -> str:
    """Return the SHA-256 of the names and contents of the files in lower-case hexadecimal digits."""
    combined = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        combined.update(f"{file.name} {len(content)}\n".encode() + content)
    return combined.hexdigest()


def node_version(path: str | None = None) -> int | None:
    """Return the major version of Node.js; None if Node.js or npm is not installed.

    Args:
        path: the search path; None: the environment variable PATH.
    """
    node = shutil.which("node", path=path)
    if node is None or shutil.which("npm", path=path) is None:
        return None
    try:
        output = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.match(r"v(\d+)\.", output)
    return int(version[1]) if version else None


def main(app: Path = APP, path: str | None = None) -> int:
    """Build the page and return the exit code: 1 if the build failed, else 0, also if Node.js is missing."""
    explorer = Explorer(app)
    if explorer.is_current():
        return 0
    version = node_version(path)
    if version is None or version < MIN_NODE_VERSION:
        found = "Node.js was not found" if version is None else f"Node.js {version} is too old"
        print(
            f"GraphiQL is left out, because {found}: install Node.js {MIN_NODE_VERSION} or newer "
            "and run `make explorer`."
        )
        return 0
    with explorer.lock():
        if explorer.is_current():
            return 0
        print("Building GraphiQL (only once, about a minute) ...", flush=True)
        try:
            explorer.build(shutil.which("npm", path=path) or "npm")
        except BuildFailed as failure:
            print(failure.output.rstrip(), file=sys.stderr)
            print(f"GraphiQL is left out: {failure} Run `make explorer` to try again.", file=sys.stderr)
            return 1
    return 0


def _sources(app: Path) -> list[Path]:
    entries = [path for path in app.iterdir() if path.name != "node_modules"]
    files = [file for entry in entries for file in ([entry] if entry.is_file() else entry.rglob("*")) if file.is_file()]
    return sorted(files)


def _has_content(mark: Path, expected: str) -> bool:
    return mark.is_file() and mark.read_text() == expected


if __name__ == "__main__":
    sys.exit(main())
