"""``python -m schema`` writes schema.graphql and possible-types.json; ``--check`` fails if either is outdated."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from schema.possible_types import possible_types
from schema.schema import build_schema

SNAPSHOT = Path(__file__).parent.parent / "schema.graphql"
POSSIBLE_TYPES = SNAPSHOT.with_name("possible-types.json")


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        print("usage: python -m schema [--check]", file=sys.stderr)
        return 2
    schema = build_schema()
    files = {
        SNAPSHOT: schema.as_str() + "\n",
        POSSIBLE_TYPES: json.dumps(possible_types(schema.documents.schema), indent=2) + "\n",
    }
    for file, written in files.items():
        if arguments == ["--check"]:
            if not file.exists() or file.read_text() != written:
                print(f"{file.name} is not what the code serves; run: python -m schema", file=sys.stderr)
                return 1
            continue
        try:
            file.write_text(written)
        except OSError as error:
            print(f"{file} cannot be written: {error.strerror}.", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
