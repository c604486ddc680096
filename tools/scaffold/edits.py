"""Adding to a file of Python at places that its syntax tells, so that neither its layout nor its comments matter."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from string import Template

from tools.scaffold.names import Refused


class Source:
    """A file as it will be. Each addition is made in the text that the one before it left."""

    def __init__(self, root: Path, path: str) -> None:
        self.path = path
        try:
            self.text = (root / path).read_text()
        except FileNotFoundError:
            raise Refused(f"{path} is gone, where a part of every operation stands.") from None

    def has_import(self, line: str) -> None:
        """Behind the module's last import; the formatter puts it in its place."""
        imports = [node for node in self._tree().body if isinstance(node, ast.Import | ast.ImportFrom)]
        self._insert(imports[-1].end_lineno if imports else None, line, "an import")

    def has_in_class(self, name: str, text: str) -> None:
        """At the end of the class."""
        classes = [node for node in self._tree().body if isinstance(node, ast.ClassDef) and node.name == name]
        self._insert(classes[0].end_lineno if classes else None, text, f"a class {name}")

    def has_before(self, name: str, text: str) -> None:
        """In front of where the name is assigned."""
        assigned = self._assigned(name)
        self._insert(assigned.lineno - 1, text, name)

    def has_case(self, function: str, text: str) -> None:
        """As the last case of the function's ``match``."""
        functions = (node for node in self._tree().body if isinstance(node, ast.AsyncFunctionDef))
        matches = [
            node
            for each in functions
            if each.name == function
            for node in ast.walk(each)
            if isinstance(node, ast.Match)
        ]
        self._insert(matches[0].cases[-1].body[-1].end_lineno if matches else None, text, f"a match in {function}")

    def has_element(self, name: str, text: str) -> None:
        """As the last of the tuple or dictionary that the name is assigned."""
        value = self._assigned(name).value
        elements = value.values if isinstance(value, ast.Dict) else value.elts if isinstance(value, ast.Tuple) else []
        self._insert_behind(elements[-1] if elements else None, f", {text}", f"a list {name}")

    def has_alternative(self, name: str, text: str) -> None:
        """As the last of the union, annotated or not, that the name is assigned."""
        value = self._assigned(name).value
        if isinstance(value, ast.Subscript) and isinstance(value.slice, ast.Tuple):
            value = value.slice.elts[0]
        self._insert_behind(value if isinstance(value, ast.BinOp) else None, f" | {text}", f"a union {name}")

    def ends_with(self, text: str) -> None:
        self.text = f"{self.text.rstrip()}\n\n\n{text.strip()}\n"

    def _tree(self) -> ast.Module:
        return ast.parse(self.text)

    def _assigned(self, name: str) -> ast.Assign | ast.AnnAssign:
        for node in self._tree().body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if isinstance(node, ast.Assign | ast.AnnAssign) and name in [getattr(each, "id", None) for each in targets]:
                return node
        raise self._gone(name)

    def _insert(self, behind_line: int | None, text: str, anchor: str) -> None:
        if behind_line is None:
            raise self._gone(anchor)
        lines = self.text.splitlines()
        self.text = "\n".join((*lines[:behind_line], text.rstrip(), *lines[behind_line:])) + "\n"

    def _insert_behind(self, node: ast.expr | None, text: str, anchor: str) -> None:
        if node is None or node.end_lineno is None or node.end_col_offset is None:
            raise self._gone(anchor)
        lines = self.text.splitlines(keepends=True)
        line = lines[node.end_lineno - 1].encode()
        lines[node.end_lineno - 1] = (
            line[: node.end_col_offset] + text.encode() + line[node.end_col_offset :]
        ).decode()
        self.text = "".join(lines)

    def _gone(self, anchor: str) -> Refused:
        return Refused(
            f"{self.path} has no {anchor.removeprefix('a ')} any more, where a part of every operation stands."
        )


def filled(template: str, words: dict[str, str]) -> str:
    return Template(template).substitute(words)


def formatted(path: str, text: str) -> str:
    """As ``make format`` leaves it."""
    for command in (["check", "--quiet", "--fix-only", "--select", "I"], ["format", "--quiet"]):
        run = [sys.executable, "-m", "ruff", *command, "--stdin-filename", path, "-"]
        text = subprocess.run(run, input=text, capture_output=True, text=True, check=True).stdout
    return text
