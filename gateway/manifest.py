"""``python -m gateway.manifest FOLDER FILE``: writes the manifest of the documents that a client's release may send."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from graphql import GraphQLError

from gateway.documents import digest
from schema.build import build_schema
from schema.documents import Documents


def manifest_of(folder: Path) -> str:
    """JSON: each ``.graphql`` file of the folder and those below, as it is, by its SHA-256, sorted by that.

    Raises ValueError, with a line for each file that would be refused.
    """
    documents, found, wrong = build_schema().documents, dict[str, str](), list[str]()
    for path in sorted(folder.rglob("*.graphql")):
        text = path.read_text(encoding="utf-8")
        found[digest(text)] = text
        wrong += [f"{path}: {reason}" for reason in _faults(documents, text)]
    if wrong:
        raise ValueError("\n".join(wrong))
    return json.dumps(found, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        print("Say where the documents are and where the manifest goes: FOLDER FILE", file=sys.stderr)
        return 2
    folder, file = map(Path, arguments)
    if not folder.is_dir():
        print(f"There is no folder {folder} with .graphql files: name one by DOCUMENTS=folder", file=sys.stderr)
        return 1
    try:
        written = manifest_of(folder)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    file.write_text(written, encoding="utf-8")
    print(f"{file}: {len(json.loads(written))} documents")
    return 0


def _faults(documents: Documents, text: str) -> Iterator[str]:
    try:
        yield from (error.message for error in documents.read(text).errors)
    except GraphQLError as error:
        yield error.message


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
