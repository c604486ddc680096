"""The schema stays compatible with the schema of the last release."""

from __future__ import annotations

from pathlib import Path

import pytest
from graphql import build_schema
from graphql.utilities import find_breaking_changes

from schema.__main__ import SNAPSHOT


def _version_of(file: Path) -> tuple[int, ...]:
    """Return the version in the name of a schema file, in comparable form."""
    return tuple(int(part) for part in file.stem.split("."))


LAST_RELEASE = max((Path(__file__).parent / "released").glob("*.graphql"), key=_version_of).read_text()


EXPECTED_BREAKS: set[str] = set()
"""Breaking changes since the last release that the frontend contract requires before 1.0."""


def breaking_changes(old: str, new: str) -> list[str]:
    """Return the descriptions of all breaking changes from the old to the new schema."""
    return [change.description for change in find_breaking_changes(build_schema(old), build_schema(new))]


def test_schema_has_no_unexpected_breaking_change_since_the_last_release() -> None:
    assert set(breaking_changes(LAST_RELEASE, SNAPSHOT.read_text())) == EXPECTED_BREAKS


@pytest.mark.parametrize(
    ("old_text", "new_text"),
    [
        ("  logout: ", "  leave: "),
        ("input LoginInput {\n", "input LoginInput {\n  captcha: String!\n"),
        ("  COMPENSATING\n", "  UNDOING\n"),
        ("  status: OperationStatus!\n", "  status: OperationStatus\n"),
    ],
)
def test_breaking_changes_are_detected(old_text: str, new_text: str) -> None:
    assert old_text in LAST_RELEASE
    assert breaking_changes(LAST_RELEASE, LAST_RELEASE.replace(old_text, new_text))
