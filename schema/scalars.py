"""The scalars beyond GraphQL's own."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import strawberry
from strawberry.types.scalar import ScalarDefinition

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
"""RFC 3339, 5.6. Digits beyond microseconds are cut off."""


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _read(text: object) -> datetime:
    if not isinstance(text, str):
        raise ValueError("A DateTime is text, as RFC 3339 writes it.")
    if not _RFC_3339.fullmatch(text):
        raise ValueError('A DateTime is written as in RFC 3339, for example "2026-11-27T10:00:00Z".')
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError("There is no such date and time.") from error


SCALARS: dict[object, ScalarDefinition] = {
    datetime: strawberry.scalar(
        name="DateTime",
        description="RFC 3339, UTC",
        specified_by_url="https://www.rfc-editor.org/rfc/rfc3339",
        serialize=_written,
        parse_value=_read,
    ),
}
