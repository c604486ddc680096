"""Builds GraphiQL into `dist`, once for each state of its sources: `python -m gateway.explorer.build`."""

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
OLDEST_NODE = 20
DEADLINE = 900.0  # seconds, for each of npm's commands; the first downloads about 60 MB


class BuildFailed(Exception):
    """A command of npm's ended badly; the message is a sentence, `output` what the command said."""

    def __init__(self, message: str, output: str) -> None:
        super().__init__(message)
        self.output = output


class Explorer:
    """The npm project in `app` and what it builds in `dist`, which are brought up to date together."""

    def __init__(self, app: Path) -> None:
        self.app = app
        self.dist = app.parent / "dist"
        self._built_from = self.dist / "built-from.sha256"
        self._installed_from = app / "node_modules" / "installed-from.sha256"

    def is_current(self) -> bool:
        return _says(self._built_from, digest(_sources(self.app))) and (self.dist / "index.html").is_file()

    def build(self, npm: str) -> None:
        """Raises BuildFailed. A build that fails leaves no mark, so the next run tries again."""
        sources = digest(_sources(self.app))
        lock = digest([self.app / "package-lock.json"])
        if not _says(self._installed_from, lock):
            # No package of ours needs an install script, and what does not run cannot do harm.
            # Vite is wanted under NODE_ENV=production, too.
            self._run(npm, "ci", "--include=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
            self._installed_from.write_text(lock)
        self._run(npm, "run", "--silent", "build")
        self._built_from.write_text(sources)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Two builds at once, of `make dev` and `make test` for instance, would take the packages from each other."""
        folder = os.open(self.app, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def _run(self, *command: str) -> None:
        said = " ".join(["npm", *command[1:2]])
        try:
            done = subprocess.run(
                command, cwd=self.app, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=DEADLINE
            )
        except subprocess.TimeoutExpired as expired:
            raise BuildFailed(f"`{said}` did not end within {DEADLINE:.0f} s.", str(expired.output or "")) from expired
        if done.returncode != 0:
            raise BuildFailed(f"`{said}` failed with exit code {done.returncode}.", done.stdout)


def digest(files: Sequence[Path]) -> str:
    """SHA-256, lower-case hex, over the names and contents of the files."""
    whole = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        whole.update(f"{file.name} {len(content)}\n".encode() + content)
    return whole.hexdigest()


def node_version(path: str | None = None) -> int | None:
    """The major version of the Node.js on `path` (PATH where that is None); None where there is none, or no npm."""
    node = shutil.which("node", path=path)
    if node is None or shutil.which("npm", path=path) is None:
        return None
    try:
        said = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.match(r"v(\d+)\.", said)
    return int(version[1]) if version else None


def main(app: Path = APP, path: str | None = None) -> int:
    """0 where GraphiQL is built or Node.js is missing, which is no fault; 1 where the build failed."""
    explorer = Explorer(app)
    if explorer.is_current():
        return 0
    version = node_version(path)
    if version is None or version < OLDEST_NODE:
        found = "Node.js was not found" if version is None else f"Node.js {version} is too old"
        print(f"GraphiQL is left out, for {found}: install Node.js {OLDEST_NODE} or newer and run `make explorer`.")
        return 0
    with explorer.alone():
        if explorer.is_current():
            return 0
        print("Building GraphiQL, which is done once and takes about a minute ...", flush=True)
        try:
            explorer.build(shutil.which("npm", path=path) or "npm")
        except BuildFailed as failure:
            print(failure.output.rstrip(), file=sys.stderr)
            print(f"GraphiQL is left out: {failure} Run `make explorer` to try again.", file=sys.stderr)
            return 1
    return 0


def _sources(app: Path) -> list[Path]:
    tops = [path for path in app.iterdir() if path.name != "node_modules"]
    files = [file for top in tops for file in ([top] if top.is_file() else top.rglob("*")) if file.is_file()]
    return sorted(files)


def _says(mark: Path, expected: str) -> bool:
    return mark.is_file() and mark.read_text() == expected


if __name__ == "__main__":
    sys.exit(main())
