"""Clients of the last release go on working."""

from __future__ import annotations

from pathlib import Path

import pytest
from graphql import build_schema
from graphql.utilities import find_breaking_changes

from schema.__main__ import SNAPSHOT


def _version(file: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in file.stem.split("."))


LAST = max((Path(__file__).parent / "released").glob("*.graphql"), key=_version).read_text()


REPLACED = {
    "Field File.size changed type from Int! to ByteCount!.",
    "Field CreateUploadInput.size changed type from Int! to ByteCount!.",
    "Field User.mfaEnabled changed type from Boolean! to Boolean.",
}
"""What the frontend contract itself replaces before 1.0."""


def breaks(old: str, new: str) -> list[str]:
    return [change.description for change in find_breaking_changes(build_schema(old), build_schema(new))]


def test_nothing_that_the_last_release_served_is_gone_or_changed() -> None:
    assert set(breaks(LAST, SNAPSHOT.read_text())) == REPLACED


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("  logout: ", "  leave: "),
        ("input LoginInput {\n", "input LoginInput {\n  captcha: String!\n"),
        ("  COMPENSATING\n", ""),
        ("  status: OperationStatus!\n", "  status: OperationStatus\n"),
    ],
)
def test_what_would_break_them_is_found(was: str, becomes: str) -> None:
    assert was in LAST
    assert breaks(LAST, LAST.replace(was, becomes))
