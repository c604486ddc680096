"""``python -m tools.scaffold archive_tenant tenants`` writes a new operation: all of it, or nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tools.scaffold.names import Refused, names_of
from tools.scaffold.plan import files

ROOT = Path(__file__).parents[2]
NEXT = """
{name} is there, with two steps: who may do it, and what it does, which is nothing yet beside its entry in the ledger.
- To see that it runs: make check && make test ARGS="-k {name}"
- What it changes, and how that is taken back, goes into activities/{domain}.
- Its steps are in workflows/{name}.py, and named in STEPS of contracts/operations.py.
- tests/histories/record.py records it with the next release; until then its steps may change as you like.
docs/tutorial.md goes through every place."""


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 2:
        print("Say which: make operation NAME=archive_tenant DOMAIN=tenants", file=sys.stderr)
        return 2
    try:
        names = names_of(ROOT, *arguments)
        made = files(ROOT, names)
        with _all_or_nothing(made):
            _write_schema()
    except Refused as why:
        print(why, file=sys.stderr)
        return 1
    print("\n".join(("schema.graphql", *sorted(made))))
    print(NEXT.format(name=names.name, domain=names.domain))
    return 0


@contextmanager
def _all_or_nothing(made: dict[str, str]) -> Iterator[None]:
    """The files are there; where the block does not come to its end, as they were before."""
    paths = [ROOT / path for path in (*made, "schema.graphql")]
    before = {path: path.read_bytes() if path.exists() else None for path in paths}
    try:
        for name, text in made.items():
            (ROOT / name).write_text(text)
        yield
    except BaseException:
        for path, content in before.items():
            path.unlink(missing_ok=True) if content is None else path.write_bytes(content)
        raise


def _write_schema() -> None:
    done = subprocess.run([sys.executable, "-m", "schema"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise Refused(f"Nothing is written, for python -m schema fails on it:\n{done.stderr.strip()}")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
