"""The schema stays compatible with the schema of the last release."""

from __future__ import annotations

from pathlib import Path

import pytest
from graphql import build_schema
from graphql.utilities import find_breaking_changes

from schema.__main__ import SNAPSHOT


def _version(file: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in file.stem.split("."))


LAST = max((Path(__file__).parent / "released").glob("*.graphql"), key=_version).read_text()


EXPECTED_BREAKS: set[str] = set()
"""Breaking changes since the last release that the frontend contract requires before 1.0."""


def breaks(old: str, new: str) -> list[str]:
    return [change.description for change in find_breaking_changes(build_schema(old), build_schema(new))]


def test_schema_has_no_unexpected_breaking_change_since_the_last_release() -> None:
    assert set(breaks(LAST, SNAPSHOT.read_text())) == EXPECTED_BREAKS


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("  logout: ", "  leave: "),
        ("input LoginInput {\n", "input LoginInput {\n  captcha: String!\n"),
        ("  COMPENSATING\n", ""),
        ("  status: OperationStatus!\n", "  status: OperationStatus\n"),
    ],
)
def test_breaking_changes_are_detected(was: str, becomes: str) -> None:
    assert was in LAST
    assert breaks(LAST, LAST.replace(was, becomes))
