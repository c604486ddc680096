"""Follow a page of the documentation in a copy of the project: apply or run each code block, in order."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.project_copy import run_in
from tests.stack import ROOT, Stack, start_dev_stack

_BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
_ASK_FUNCTION = re.compile(r"^ask\(\).*\n", re.MULTILINE)
_MAKE_FUNCTION = 'make() { command make -o environment "$@"; }\n'
"""Keeps the virtual environment of the running tests: the copy is not to create one."""


@dataclass
class PageRunner:
    """Executes the code blocks of a page.

    A ``python`` block creates the file in its title, a ``diff`` block changes it, any other block is a shell script.
    ``outputs`` has the output of each shell script.
    """

    tree: Path
    folder: Path
    enter: Callable[[AbstractContextManager[Stack]], Stack]
    stack: Stack | None = None
    ask_function: str = ""
    outputs: list[str] = field(default_factory=list)

    def execute(self, language: str, title: str, text: str) -> None:
        if language == "python":
            assert not (self.tree / title).exists(), title
            (self.tree / title).write_text(text)
        elif language == "diff":
            (self.tree / title).write_text(apply_diff((self.tree / title).read_text(), text, title))
        elif text == "make dev\n":
            self.stack = self.enter(start_dev_stack(self.folder / "dev", tree=self.tree))
        else:
            self._run(text)

    def _run(self, commands: str) -> None:
        defined = _ASK_FUNCTION.search(commands)
        self.ask_function = defined.group() if defined else self.ask_function
        script = f"{_MAKE_FUNCTION}{self.ask_function}{_ASK_FUNCTION.sub('', commands)}"
        if self.stack is not None:
            script = script.replace("http://127.0.0.1:8080", self.stack.url)
        script = script.replace("/tmp/adx-cookies", str(self.folder / "jar"))
        self.outputs.append(run_in(self.tree, "sh", "-eu", "-c", script))


def page_blocks(page: str) -> Iterator[tuple[str, str, str]]:
    """Yield language, title and text of each code block of a page in ``docs/``.

    Raises:
        AssertionError: the page has a block of another form, which would be skipped.
    """
    text = (ROOT / "docs" / page).read_text()
    found = _BLOCK.findall(text)
    assert text.count("\n```") == 2 * len(found), f"{page} has a code block of another form"
    yield from found


def apply_diff(text: str, diff: str, file: str) -> str:
    """Return the text with each hunk of the diff applied. The context of a hunk must occur exactly once."""
    for hunk in diff.split("@@\n"):
        lines = hunk.splitlines(keepends=True)
        assert all(line[0] in " +-" for line in lines), (file, hunk)
        before = "".join(line[1:] for line in lines if line[0] in " -")
        assert text.count(before) == 1, f"{file} has this {text.count(before)} times:\n{before}"
        text = text.replace(before, "".join(line[1:] for line in lines if line[0] in " +"))
    return text


def json_lines(output: str) -> list[dict[str, Any]]:
    """Return the JSON object of each line of the output."""
    return [json.loads(line) for line in output.splitlines() if line]
