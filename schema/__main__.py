"""``python -m schema`` writes schema.graphql; with ``--check`` it fails where the file is not what would be written."""

from __future__ import annotations

import sys
from pathlib import Path

from schema.build import build_schema

SNAPSHOT = Path(__file__).parent.parent / "schema.graphql"


def main(arguments: list[str]) -> int:
    written = build_schema().as_str() + "\n"
    if arguments == ["--check"]:
        if not SNAPSHOT.exists() or SNAPSHOT.read_text() != written:
            print("schema.graphql is not what the code serves; run: python -m schema", file=sys.stderr)
            return 1
        return 0
    SNAPSHOT.write_text(written)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
