"""Generate an operation or a domain: ``python -m tools.scaffold operation NAME DOMAIN``, ``... domain NAME``.

If the result cannot be imported, every file is restored.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tools.scaffold.domain_files import domain_files
from tools.scaffold.domain_names import HOST_PROCESS, domain_names
from tools.scaffold.errors import ScaffoldError
from tools.scaffold.operation_files import operation_files
from tools.scaffold.operation_names import operation_names

ROOT = Path(__file__).parents[2]
GENERATED_BY_OPERATION = {"schema.graphql": "schema"}
"""Files that a new operation changes and that a module writes, with the name of the module."""
GENERATED_BY_DOMAIN = GENERATED_BY_OPERATION | {"docs/configuration.md": "tools.configuration_page"}
"""The same for a new domain."""
USAGE = """\
Name what to generate:
  make operation NAME=archive_tenant DOMAIN=tenants
  make domain NAME=billing"""
NEXT_STEPS_OF_OPERATION = """
The operation {name} has two steps: check_permissions, and {name}, which so far only writes its idempotency record.
1. Run it: make check && make test ARGS="-k {name}"
2. Write what the step changes, and how the change is undone, in activities/{domain}.
3. Change the order of the steps in workflows/{name}.py, and their names in STEPS of contracts/operations.py.
4. Before a release, record its history: tests/histories/record.py. Until then its steps may change.
docs/tutorial.md explains each of these files."""
NEXT_STEPS_OF_DOMAIN = """
The domain {name} has one table, one endpoint that reads it, and no activities. The process `{process}` serves it.
1. Run it: make check && make test ARGS="-k {name}"
2. Replace {item} by the data of the domain: contracts/{name}.py, activities/{name}, resolvers/clients/{name}.py.
3. Add an operation that changes the data: make operation NAME=create_item DOMAIN={name}
4. Add fields to the schema that read the data by context.backend.{name}.
5. For a process of its own: PROCESSES in worker/registry.py, worker/roles.py, and the files of docker/."""


def main(arguments: Sequence[str]) -> int:
    """Return 0 if the files are written, 1 if they are not, 2 for a wrong call."""
    try:
        match arguments:
            case ["operation", name, domain]:
                files, generated = operation_files(ROOT, operation_names(ROOT, name, domain)), GENERATED_BY_OPERATION
                next_steps = NEXT_STEPS_OF_OPERATION.format(name=name, domain=domain)
            case ["domain", name]:
                files, generated = domain_files(ROOT, domain_names(ROOT, name)), GENERATED_BY_DOMAIN
                next_steps = NEXT_STEPS_OF_DOMAIN.format(
                    name=name, item=f"{name.capitalize()}Item", process=HOST_PROCESS
                )
            case _:
                print(USAGE, file=sys.stderr)
                return 2
        with _written_or_restored(files, generated):
            for module in generated.values():
                _run(module)
    except ScaffoldError as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join((*generated, *sorted(files))))
    print(next_steps)
    return 0


@contextmanager
def _written_or_restored(files: dict[str, str], generated: Iterable[str]) -> Iterator[None]:
    """Write the files; if the block raises, restore them and the generated files."""
    paths = [ROOT / path for path in (*files, *generated)]
    before = {path: path.read_bytes() if path.exists() else None for path in paths}
    new_folders = [folder for folder in {parent for path in paths for parent in path.parents} if not folder.exists()]
    try:
        for name, text in files.items():
            (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / name).write_text(text)
        yield
    except BaseException:
        for path, content in before.items():
            path.unlink(missing_ok=True) if content is None else path.write_bytes(content)
        for folder in sorted(new_folders, reverse=True):
            _remove_folder(folder)
        raise


def _remove_folder(folder: Path) -> None:
    """Remove the folder with the bytecode that Python wrote into it."""
    for path in folder.glob("__pycache__/*"):
        path.unlink()
    for path in (folder / "__pycache__", folder):
        if path.exists():
            path.rmdir()


def _run(module: str) -> None:
    done = subprocess.run([sys.executable, "-m", module], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise ScaffoldError(f"Nothing is written, because python -m {module} fails:\n{done.stderr.strip()}")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
