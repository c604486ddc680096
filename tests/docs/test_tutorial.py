"""The tutorial, followed to the letter in a copy of the tree: each block is applied or run, in its order."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.project_copy import copied_tree, run_in
from tests.stack import ROOT, Stack, start_dev_stack

BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
ASK = re.compile(r"^ask\(\).*\n", re.MULTILINE)
MAKE = 'make() { command make -o environment "$@"; }\n'
"""The environment is this one, which no test may make anew."""


@dataclass
class Reader:
    """Does what the page says. ``said``: what each block of commands told."""

    tree: Path
    folder: Path
    running: Callable[[AbstractContextManager[Stack]], Stack]
    stack: Stack | None = None
    ask: str = ""
    said: list[str] = field(default_factory=list)

    def do(self, language: str, title: str, text: str) -> None:
        if language == "python":
            assert not (self.tree / title).exists(), title
            (self.tree / title).write_text(text)
        elif language == "diff":
            (self.tree / title).write_text(changed((self.tree / title).read_text(), text, title))
        elif text == "make dev\n":
            self.stack = self.running(start_dev_stack(self.folder / "dev", tree=self.tree))
        else:
            self._run(text)

    def _run(self, commands: str) -> None:
        defined = ASK.search(commands)
        self.ask = defined.group() if defined else self.ask
        script = f"{MAKE}{self.ask}{ASK.sub('', commands)}"
        if self.stack is not None:
            script = script.replace("http://127.0.0.1:8080", self.stack.url)
        script = script.replace("/tmp/adx-cookies", str(self.folder / "jar"))
        self.said.append(run_in(self.tree, "sh", "-eu", "-c", script))


def blocks(page: str) -> Iterator[tuple[str, str, str]]:
    yield from BLOCK.findall(page)


def changed(text: str, diff: str, where: str) -> str:
    """The text with each part of the diff, whose context has to be there once."""
    for part in diff.split("@@\n"):
        lines = part.splitlines(keepends=True)
        assert all(line[0] in " +-" for line in lines), (where, part)
        before = "".join(line[1:] for line in lines if line[0] in " -")
        assert text.count(before) == 1, f"{where} has this {text.count(before)} times:\n{before}"
        text = text.replace(before, "".join(line[1:] for line in lines if line[0] in " +"))
    return text


def answers(said: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.splitlines() if line]


@pytest.mark.timeout(900)
def test_whoever_follows_it_has_an_operation_that_runs_and_is_tested(tmp_path: Path, mypy_cache: Path) -> None:
    tree = copied_tree(tmp_path / "tree", mypy_cache=mypy_cache)
    with ExitStack() as opened:
        reader = Reader(tree, tmp_path, opened.enter_context)
        for block in blocks((ROOT / "docs" / "tutorial.md").read_text()):
            reader.do(*block)
    _, _, renamed, followed, refused, tested, generated = reader.said

    done = answers(renamed)[1]["data"]["renameTenant"]["operation"]
    assert [step["status"] for step in done["progress"]["steps"]] == ["COMPLETED", "COMPLETED"]
    assert (done["status"], done["result"], done["tenant"]) == (
        "COMPLETED",
        {"name": "Acme and Sons"},
        {"name": "Acme and Sons"},
    )

    states = [json.loads(told)["data"]["operation"] for told in re.findall(r"^data: (\{.*)$", followed, re.MULTILINE)]
    assert states[-1] == {"status": "COMPLETED", "progress": {"fraction": 1, "currentStep": None}}
    assert "event: complete" in followed

    blank, _, graces = answers(refused)
    assert blank["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"
    failed = graces["data"]["renameTenant"]["operation"]
    assert failed["error"] == {"code": "PERMISSION_DENIED", "step": "check_permissions", "compensated": True}

    assert " passed" in tested
    assert "skipped" not in tested
    assert "archive_tenant" in generated


@pytest.mark.parametrize("text", ["one\n", "one\ntwo\none\ntwo\n"])
def test_a_change_whose_place_is_not_there_once_is_found_out(text: str) -> None:
    with pytest.raises(AssertionError, match="times"):
        changed(text, " one\n two\n+three\n", "here")


def test_no_block_is_passed_over() -> None:
    page = (ROOT / "docs" / "tutorial.md").read_text()
    assert page.count("\n```") == 2 * len(list(blocks(page)))
