"""The command that writes a manifest of trusted documents from the .graphql files of a client.

Usage: ``python -m gateway.http.document_manifest FOLDER FILE``.
"""

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

from gateway.http.trusted_documents import digest, validation_errors
from schema.schema import build_schema

_FILE_EXTENSIONS = frozenset((".graphql", ".gql"))


def build_manifest(folder: Path) -> str:
    """Return the manifest as JSON: one document for each operation in the folder and its subfolders, by its SHA-256.

    A document is an operation and the fragments that it uses, which may be in other files. It is printed in the form
    of graphql-js and graphql-core, in which clients send it. The documents are sorted by their hashes.

    Raises:
        ValueError: a file is invalid, the gateway would refuse a document, or there is no operation; the message has
            one line for each error.
    """
    found = _read_definitions(folder)
    errors, documents, entries = list(found.errors), build_schema().documents, dict[str, str]()
    for path, operation in found.operations:
        text = print_ast(DocumentNode(definitions=(operation, *_used_fragments(operation, found.fragments))))
        entries[digest(text)] = text
        name = operation.name.value if operation.name else f"an unnamed {operation.operation.value}"
        errors += [f"{path}: {name}: {reason}" for reason in validation_errors(documents, text)]
    if errors:
        raise ValueError("\n".join(errors))
    if not entries:
        raise ValueError(f"There is no operation in the .graphql and .gql files of {folder}.")
    return json.dumps(entries, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Write the manifest and return the exit code: 2 for wrong arguments, 1 for an error, else 0."""
    if len(arguments) != 2:
        print("Pass the folder of the documents and the file of the manifest: FOLDER FILE", file=sys.stderr)
        return 2
    folder, file = map(Path, arguments)
    if not folder.is_dir():
        print(f"There is no folder {folder} with .graphql files: set DOCUMENTS=folder", file=sys.stderr)
        return 1
    try:
        manifest = build_manifest(folder)
        temporary = file.with_name(file.name + ".part")
        temporary.write_text(manifest, encoding="utf-8")
        temporary.replace(file)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"The manifest {file} cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    count = len(json.loads(manifest))
    print(f"{file}: {count} {'document' if count == 1 else 'documents'}")
    return 0


@dataclass
class _Definitions:
    """The operations and fragments of all files, and the errors in them as lines of text."""

    operations: list[tuple[Path, OperationDefinitionNode]] = field(default_factory=list)
    fragments: dict[str, FragmentDefinitionNode] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def add(self, path: Path, tree: DocumentNode) -> None:
        """Add the definitions of one file."""
        for definition in tree.definitions:
            if isinstance(definition, OperationDefinitionNode):
                self.operations.append((path, definition))
            elif not isinstance(definition, FragmentDefinitionNode):
                self.errors.append(f"{path}: it defines something other than operations and fragments")
            elif print_ast(self.fragments.setdefault(definition.name.value, definition)) != print_ast(definition):
                self.errors.append(f"{path}: another fragment is named {definition.name.value}, too")


def _read_definitions(folder: Path) -> _Definitions:
    found = _Definitions()
    for path in sorted(path for path in folder.rglob("*") if path.suffix in _FILE_EXTENSIONS and path.is_file()):
        try:
            found.add(path, parse(path.read_text(encoding="utf-8")))
        except GraphQLError as error:
            line = error.locations[0].line if error.locations else 1
            found.errors.append(f"{path}:{line}: {error.message}")
        except (OSError, UnicodeDecodeError) as error:
            found.errors.append(f"{path}: it cannot be read: {error}")
    return found


class _SpreadCollector(Visitor):
    """Collects the names of the fragment spreads of a tree."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def enter_fragment_spread(self, node: FragmentSpreadNode, *_: object) -> None:
        self.names.append(node.name.value)


def _used_fragments(
    operation: OperationDefinitionNode, fragments: Mapping[str, FragmentDefinitionNode]
) -> Iterator[FragmentDefinitionNode]:
    """Yield each fragment that the operation uses, directly or through another fragment, in the order of their use."""
    seen, pending = set[str](), _spread_names(operation)
    while pending:
        name = pending.pop(0)
        if name in fragments and name not in seen:
            seen.add(name)
            yield fragments[name]
            pending = _spread_names(fragments[name]) + pending


def _spread_names(node: Node) -> list[str]:
    collector = _SpreadCollector()
    visit(node, collector)
    return collector.names


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
