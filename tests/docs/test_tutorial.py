"""docs/tutorial.md works as written: each of its code blocks is applied or run in a copy of the project, in order."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.docs.page_runner import PageRunner, apply_diff, json_lines, page_blocks
from tests.project_copy import copy_project


@pytest.mark.timeout(900)
def test_the_tutorial_creates_an_operation_that_runs_and_is_tested(tmp_path: Path, mypy_cache: Path) -> None:
    tree = copy_project(tmp_path / "tree", mypy_cache=mypy_cache)
    with ExitStack() as stack:
        runner = PageRunner(tree, tmp_path, stack.enter_context)
        for block in page_blocks("tutorial.md"):
            runner.execute(*block)
    _, _, renamed, followed, refused, tested, generated = runner.outputs

    done = json_lines(renamed)[1]["data"]["renameTenant"]["operation"]
    assert [step["status"] for step in done["progress"]["steps"]] == ["COMPLETED", "COMPLETED"]
    assert (done["status"], done["result"], done["tenant"]) == (
        "COMPLETED",
        {"name": "Acme and Sons"},
        {"name": "Acme and Sons"},
    )

    states = [json.loads(event)["data"]["operation"] for event in re.findall(r"^data: (\{.*)$", followed, re.MULTILINE)]
    assert states[-1] == {"status": "COMPLETED", "progress": {"fraction": 1, "currentStep": None}}
    assert "event: complete" in followed

    blank, _, graces = json_lines(refused)
    assert blank["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"
    failed = graces["data"]["renameTenant"]["operation"]
    assert failed["error"] == {"code": "PERMISSION_DENIED", "step": "check_permissions", "compensated": True}

    assert " passed" in tested
    assert "skipped" not in tested
    assert "archive_tenant" in generated


@pytest.mark.parametrize("text", ["one\n", "one\ntwo\none\ntwo\n"])
def test_a_diff_fails_unless_its_context_occurs_once(text: str) -> None:
    with pytest.raises(AssertionError, match="times"):
        apply_diff(text, " one\n two\n+three\n", "here")


def test_every_code_block_of_the_tutorial_has_the_form_that_is_run() -> None:
    assert list(page_blocks("tutorial.md"))
