"""Every file of this repository that the documentation names exists."""

from __future__ import annotations

import re

import pytest

from tests.docs.blocks import pages
from tests.stack import ROOT

_PATH = re.compile(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|mjs|md|svg|json|yaml|toml|sql|sh|graphql|lock|tsx?))`")
CREATED_BY_READERS = {
    "docs/adding-a-field.md",
    "docs/adding-an-operation.md",
    "docs/adding-a-domain.md",
    "docs/tutorial.md",
    "docs/frontend.md",
}
"""Pages that name files which their readers create. Tests of these pages run their code blocks."""
PLACEHOLDERS = {
    "activities/DOMAIN/models.py",
    "tests/activities/released/VERSION.json",
    "tests/schema/released/VERSION.graphql",
}


def named_files(text: str) -> set[str]:
    """Return the paths in the text, relative to the root of the repository."""
    return set(_PATH.findall(text)) - PLACEHOLDERS


@pytest.mark.parametrize("page", sorted(set(pages()) - CREATED_BY_READERS))
def test_every_file_that_the_page_names_exists(page: str) -> None:
    named = named_files((ROOT / page).read_text(encoding="utf-8"))
    assert sorted(path for path in named if not (ROOT / path).exists()) == []
