"""The scalars beyond GraphQL's own."""

from __future__ import annotations

from datetime import UTC, datetime

import strawberry
from strawberry.types.scalar import ScalarDefinition


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _read(text: object) -> datetime:
    if not isinstance(text, str):
        raise ValueError("A DateTime is text, as RFC 3339 writes it.")
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("A DateTime names its offset from UTC.")
    return moment.astimezone(UTC)


SCALARS: dict[object, ScalarDefinition] = {
    datetime: strawberry.scalar(
        name="DateTime",
        description="RFC 3339, UTC",
        specified_by_url="https://www.rfc-editor.org/rfc/rfc3339",
        serialize=_written,
        parse_value=_read,
    ),
}
