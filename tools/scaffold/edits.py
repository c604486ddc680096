"""Insert text into existing files at positions that the syntax defines, so that layout and comments do not matter."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from string import Template

from tools.scaffold.errors import ScaffoldError


class TextFile:
    """The new content of a text file. Each method edits the result of the previous edits; nothing is written to disk.

    Raises:
        ScaffoldError: the file, or the line at which a method inserts text, does not exist.
    """

    def __init__(self, root: Path, path: str) -> None:
        self.path = path
        try:
            self.text = (root / path).read_text()
        except FileNotFoundError:
            raise ScaffoldError(f"{path} does not exist, but the generated code extends it.") from None

    def append(self, text: str) -> None:
        """Append the text to the file, after two blank lines."""
        self.text = f"{self.text.rstrip()}\n\n\n{text.strip()}\n"

    def insert_before_line(self, anchor: str, text: str) -> None:
        """Insert the text before the only line that contains ``anchor``."""
        lines = self.text.splitlines()
        numbers = [number for number, line in enumerate(lines) if anchor in line]
        self._insert_after_line(numbers[0] if len(numbers) == 1 else None, text, f"single line with {anchor}")

    def replace_in_line(self, anchor: str, old: str, new: str) -> None:
        """Replace the text in the only line that contains ``anchor``."""
        lines = self.text.splitlines()
        numbers = [number for number, line in enumerate(lines) if anchor in line and old in line]
        if len(numbers) != 1:
            raise self._missing(f"single line with {anchor}")
        lines[numbers[0]] = lines[numbers[0]].replace(old, new)
        self.text = "\n".join(lines) + "\n"

    def _insert_after_line(self, line: int | None, text: str, anchor: str) -> None:
        """Insert the text after the line (counted from 1; 0 is the beginning). ``anchor`` names it in the error."""
        if line is None:
            raise self._missing(anchor)
        lines = self.text.splitlines()
        self.text = "\n".join((*lines[:line], text.rstrip(), *lines[line:])) + "\n"

    def _missing(self, anchor: str) -> ScaffoldError:
        return ScaffoldError(f"{self.path} has no {anchor}, but the generated code extends it.")


class PythonFile(TextFile):
    """The new content of a Python module; its methods find their positions in the syntax tree."""

    def add_import(self, line: str) -> None:
        """Insert the import after the module's last import; ``format_source`` sorts it."""
        imports = [node for node in self._tree().body if isinstance(node, ast.Import | ast.ImportFrom)]
        self._insert_after_line(imports[-1].end_lineno if imports else None, line, "import")

    def append_to_class(self, name: str, text: str) -> None:
        """Insert the text at the end of the class."""
        found = self._class(name)
        self._insert_after_line(found.end_lineno if found else None, text, f"class {name}")

    def insert_before_field(self, class_name: str, field: str, text: str) -> None:
        """Insert the text before the annotated field of the class."""
        found = self._class(class_name)
        fields = [] if found is None else [node for node in found.body if isinstance(node, ast.AnnAssign)]
        lines = [node.lineno for node in fields if getattr(node.target, "id", None) == field]
        self._insert_after_line(lines[0] - 1 if lines else None, text, f"field {field} of class {class_name}")

    def insert_before_assignment(self, name: str, text: str) -> None:
        """Insert the text before the statement that assigns the module-level name."""
        self._insert_after_line(self._assignment(name).lineno - 1, text, name)

    def append_case(self, function: str, text: str) -> None:
        """Insert the text after the last case of the ``match`` statement of the asynchronous function."""
        functions = (node for node in self._tree().body if isinstance(node, ast.AsyncFunctionDef))
        matches = [
            node
            for each in functions
            if each.name == function
            for node in ast.walk(each)
            if isinstance(node, ast.Match)
        ]
        self._insert_after_line(
            matches[0].cases[-1].body[-1].end_lineno if matches else None, text, f"match in {function}"
        )

    def append_element(self, name: str, text: str, *, key: str | None = None) -> None:
        """Append an element to the tuple or dictionary that is assigned to the name.

        With ``key``: to the tuple that the dictionary has under this key.
        """
        value = self._assignment(name).value
        if key is not None and isinstance(value, ast.Dict):
            entries = zip(value.keys, value.values, strict=True)
            value = next((each for at, each in entries if isinstance(at, ast.Constant) and at.value == key), None)
        elements = value.values if isinstance(value, ast.Dict) else value.elts if isinstance(value, ast.Tuple) else []
        self._insert_after_node(elements[-1] if elements else None, f", {text}", f"elements of {name}")

    def append_union_member(self, name: str, text: str) -> None:
        """Append a member to the union, annotated or not, that is assigned to the name."""
        value = self._assignment(name).value
        if isinstance(value, ast.Subscript) and isinstance(value.slice, ast.Tuple):
            value = value.slice.elts[0]
        self._insert_after_node(value if isinstance(value, ast.BinOp) else None, f" | {text}", f"union {name}")

    def append_argument(self, function: str, text: str) -> None:
        """Append a keyword argument to the only call of the function in the module."""
        calls = [
            node
            for node in ast.walk(self._tree())
            if isinstance(node, ast.Call) and ast.unparse(node.func) == function and node.keywords
        ]
        last = calls[0].keywords[-1].value if len(calls) == 1 else None
        self._insert_after_node(last, f", {text}", f"call of {function}")

    def _tree(self) -> ast.Module:
        return ast.parse(self.text)

    def _class(self, name: str) -> ast.ClassDef | None:
        classes = (node for node in self._tree().body if isinstance(node, ast.ClassDef))
        return next((node for node in classes if node.name == name), None)

    def _assignment(self, name: str) -> ast.Assign | ast.AnnAssign:
        for node in self._tree().body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if isinstance(node, ast.Assign | ast.AnnAssign) and name in [getattr(each, "id", None) for each in targets]:
                return node
        raise self._missing(name)

    def _insert_after_node(self, node: ast.expr | None, text: str, anchor: str) -> None:
        if node is None or node.end_lineno is None or node.end_col_offset is None:
            raise self._missing(anchor)
        lines = self.text.splitlines(keepends=True)
        line = lines[node.end_lineno - 1].encode()
        lines[node.end_lineno - 1] = (
            line[: node.end_col_offset] + text.encode() + line[node.end_col_offset :]
        ).decode()
        self.text = "".join(lines)


def render(template: str, values: dict[str, str]) -> str:
    """Replace each ``$name`` of the template by its value."""
    return Template(template).substitute(values)


def format_source(path: str, text: str) -> str:
    """Return the text as ``make format`` would leave it; text that is not Python stays as it is."""
    if not path.endswith(".py"):
        return text
    for command in (["check", "--quiet", "--fix-only", "--select", "I"], ["format", "--quiet"]):
        run = [sys.executable, "-m", "ruff", *command, "--stdin-filename", path, "-"]
        text = subprocess.run(run, input=text, capture_output=True, text=True, check=True).stdout
    return text
