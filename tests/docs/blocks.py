"""Find the code blocks of the documentation; record which test runs each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.stack import ROOT

_MAX_FIRST_LINE_LENGTH = 60
_FENCE = re.compile(r"^( *)(```+|~~~+) *(\w*)[^\n]*$")


@dataclass(frozen=True)
class Block:
    """A code block of a page. ``line`` is the number of its first line; ``language`` may be empty."""

    page: str
    line: int
    heading: str
    language: str
    text: str

    @property
    def first_line(self) -> str:
        """Return at most 60 characters of the first line."""
        return self.text.partition("\n")[0].strip()[:_MAX_FIRST_LINE_LENGTH]


TESTED_ELSEWHERE = {
    ("README.md", "Walk-through"): "tests/end_to_end/test_readme.py",
    ("README.md", "Separate processes"): "tests/end_to_end/test_separate_processes.py",
    ("docs/tutorial.md", ""): "tests/docs/test_tutorial.py",
    ("docs/adding-a-field.md", ""): "tests/docs/test_adding_pages.py",
    ("docs/adding-an-operation.md", ""): "tests/docs/test_adding_pages.py",
    ("docs/adding-a-domain.md", ""): "tests/docs/test_adding_pages.py",
    ("docs/frontend.md", "Normalized caches"): "tests/clients/test_normalized_cache.py",
    ("docs/upgrades.md", "Versions of the workflows' workers"): "tests/upgrades/test_commands.py",
    ("docs/upgrades.md", "Changing a workflow"): "tests/upgrades/next_release.py",
}
"""The test that runs all blocks of a section, or of a page (empty heading)."""

NOT_RUN = {
    ("README.md", "make web"): "runs until Ctrl-C; tests/examples/test_web.py starts the same server",
    ("README.md", "make test     # runs all tests, on servers that the tests st"): (
        "make test would run this test again; tests/test_commands.py runs make help, and the continuous integration all"
    ),
    ("CONTRIBUTING.md", "make dev      # everything, running, in this terminal"): (
        "make test would run this test again; the fixture dev_stack is what make dev runs"
    ),
    ("docs/deploy.md", "sh docker/new-env.sh"): (
        "needs a container runtime; tests/docker/test_compose.py runs new-env.sh and what compose.yaml starts"
    ),
    ("docs/frontend.md", "make dev      # in one terminal"): (
        "runs until Ctrl-C; tests/examples/test_web.py starts the same two servers"
    ),
    (
        "docs/security.md",
        "temporal workflow show --workflow-id ID --codec-endpoint htt",
    ): ("needs a gateway with TLS; tests/security/test_codec.py calls the endpoint as the command does"),
    ("docs/upgrades.md", "class Forget(ops.RemoveField):"): (
        "a part of a migration that an author fills in; tests/activities/test_released_tables.py runs the real ones"
    ),
}
"""The reason why a block is not run, by its page and the beginning of its first line."""


STARTS_THE_STACK = "make dev"
"""The command that the fixture dev_stack replaces; a block with only this command counts as tested."""


def pages() -> list[str]:
    """Return the path of every Markdown file that is documentation."""
    folders = (ROOT.glob("*.md"), *((ROOT / folder).rglob("*.md") for folder in ("docs", "docker", "examples")))
    found = [path.relative_to(ROOT) for folder in folders for path in folder]
    return sorted(str(path) for path in found if "node_modules" not in path.parts)


def all_blocks() -> list[Block]:
    """Return the code blocks of all pages."""
    return [block for page in pages() for block in parse_blocks(page, (ROOT / page).read_text(encoding="utf-8"))]


def parse_blocks(page: str, text: str) -> Iterator[Block]:
    """Yield the fenced blocks, and the indented blocks with ``indented`` as their language."""
    heading, lines = "", text.split("\n")
    n = 0
    while n < len(lines):
        if fence := _FENCE.match(lines[n]):
            indent, mark, language = fence.groups()
            end = n + 1
            while lines[end].strip() != mark:
                end += 1
            body = "\n".join(line.removeprefix(indent) for line in lines[n + 1 : end]) + "\n"
            yield Block(page, n + 1, heading, language, body)
            n = end
        elif lines[n].startswith("#"):
            heading = lines[n].lstrip("# ")
        elif lines[n].startswith("    ") and lines[n].strip() and not lines[n - 1].strip() and not _in_list(lines, n):
            yield Block(page, n + 1, heading, "indented", lines[n][4:])
            while n + 1 < len(lines) and (lines[n + 1].startswith("    ") or not lines[n + 1].strip()):
                n += 1
        n += 1


def is_tested_elsewhere(block: Block) -> bool:
    """Return whether TESTED_ELSEWHERE has the block's section or page."""
    return any(key in TESTED_ELSEWHERE for key in ((block.page, block.heading), (block.page, "")))


def _in_list(lines: list[str], n: int) -> bool:
    """Whether the line continues an item of a list."""
    before = next((line for line in reversed(lines[:n]) if line.strip() and not line.startswith("    ")), "")
    return bool(re.match(r" {0,3}([-*+]|\d+\.) ", before))
