"""Write schema.graphql and possible-types.json: ``python -m schema``; with ``--check``, fail if either is outdated."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from schema.possible_types import possible_types
from schema.schema import build_schema

SNAPSHOT = Path(__file__).parent.parent / "schema.graphql"
POSSIBLE_TYPES = SNAPSHOT.with_name("possible-types.json")


def main(arguments: list[str]) -> int:
    """Write or check the files; return the exit status: 0, 1 for an outdated or unwritable file, 2 for bad usage."""
    if arguments not in ([], ["--check"]):
        print("usage: python -m schema [--check]", file=sys.stderr)
        return 2
    schema = build_schema()
    files = {
        SNAPSHOT: schema.as_str() + "\n",
        POSSIBLE_TYPES: json.dumps(possible_types(schema.documents.schema), indent=2) + "\n",
    }
    for file, content in files.items():
        if arguments == ["--check"]:
            if not file.exists() or file.read_text() != content:
                print(f"{file.name} is outdated; run: python -m schema", file=sys.stderr)
                return 1
            continue
        try:
            file.write_text(content)
        except OSError as error:
            print(f"{file} cannot be written: {error.strerror}.", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
