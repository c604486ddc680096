"""Write the manifest of the documents of a client: ``python -m gateway.http.document_manifest FOLDER FILE``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from graphql import (
    DocumentNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    Node,
    OperationDefinitionNode,
    Visitor,
    parse,
    print_ast,
    visit,
)

from gateway.http.trusted_documents import digest, faults_of
from schema.schema import build_schema

_ENDINGS = frozenset((".graphql", ".gql"))


def manifest_of(folder: Path) -> str:
    """Return JSON: each operation in the folder and its subfolders with the fragments that it uses, by its SHA-256.

    Fragments may be in other files than the operations. Each document is printed as graphql-js and graphql-core print
    it, which is how clients send it. The entries are sorted by their hashes.

    Raises:
        ValueError: with a line for each document that the gateway would refuse.
    """
    found = _read(folder)
    wrong, documents, entries = list(found.wrong), build_schema().documents, dict[str, str]()
    for path, operation in found.operations:
        text = print_ast(DocumentNode(definitions=(operation, *_used(operation, found.fragments))))
        entries[digest(text)] = text
        name = operation.name.value if operation.name else f"an unnamed {operation.operation.value}"
        wrong += [f"{path}: {name}: {reason}" for reason in faults_of(documents, text)]
    if wrong:
        raise ValueError("\n".join(wrong))
    if not entries:
        raise ValueError(f"There is no operation in the .graphql and .gql files of {folder}.")
    return json.dumps(entries, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


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
        part = file.with_name(file.name + ".part")
        part.write_text(written, encoding="utf-8")
        part.replace(file)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"The manifest {file} cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    count = len(json.loads(written))
    print(f"{file}: {count} {'document' if count == 1 else 'documents'}")
    return 0


@dataclass
class _Found:
    """What the files define, and what is wrong with them, a line each."""

    operations: list[tuple[Path, OperationDefinitionNode]] = field(default_factory=list)
    fragments: dict[str, FragmentDefinitionNode] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def add(self, path: Path, tree: DocumentNode) -> None:
        for each in tree.definitions:
            if isinstance(each, OperationDefinitionNode):
                self.operations.append((path, each))
            elif not isinstance(each, FragmentDefinitionNode):
                self.wrong.append(f"{path}: it defines something other than operations and fragments")
            elif print_ast(self.fragments.setdefault(each.name.value, each)) != print_ast(each):
                self.wrong.append(f"{path}: another fragment is named {each.name.value}, too")


def _read(folder: Path) -> _Found:
    found = _Found()
    for path in sorted(path for path in folder.rglob("*") if path.suffix in _ENDINGS and path.is_file()):
        try:
            found.add(path, parse(path.read_text(encoding="utf-8")))
        except GraphQLError as error:
            line = error.locations[0].line if error.locations else 1
            found.wrong.append(f"{path}:{line}: {error.message}")
        except (OSError, UnicodeDecodeError) as error:
            found.wrong.append(f"{path}: it cannot be read: {error}")
    return found


class _Spreads(Visitor):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def enter_fragment_spread(self, node: FragmentSpreadNode, *_: object) -> None:
        self.names.append(node.name.value)


def _used(
    operation: OperationDefinitionNode, fragments: Mapping[str, FragmentDefinitionNode]
) -> Iterator[FragmentDefinitionNode]:
    """Yield the fragments that the operation uses, directly or by another one, each once, in the order of their use."""
    seen, waiting = set[str](), _spread_in(operation)
    while waiting:
        name = waiting.pop(0)
        if name in fragments and name not in seen:
            seen.add(name)
            yield fragments[name]
            waiting = _spread_in(fragments[name]) + waiting


def _spread_in(node: Node) -> list[str]:
    spreads = _Spreads()
    visit(node, spreads)
    return spreads.names


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
