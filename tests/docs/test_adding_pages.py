"""The pages about adding code work as written: each code block is applied or run in a copy of the project, in order."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.docs.page_runner import PageRunner, page_blocks
from tests.docs.test_paths import named_files
from tests.project_copy import copy_project
from tests.stack import ROOT


@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", ["adding-a-field.md", "adding-an-operation.md", "adding-a-domain.md"])
def test_the_commands_of_the_page_pass_every_check_and_test(page: str, tmp_path: Path, mypy_cache: Path) -> None:
    tree = copy_project(tmp_path / "tree", mypy_cache=mypy_cache)
    with ExitStack() as stack:
        runner = PageRunner(tree, tmp_path, stack.enter_context)
        for block in page_blocks(page):
            runner.execute(*block)

    tests = runner.outputs[-1]
    assert " passed" in tests
    assert "skipped" not in tests
    named = named_files((ROOT / "docs" / page).read_text())
    assert sorted(path for path in named if not (tree / path).exists()) == []
