"""The custom scalars of the schema: DateTime and ByteCount."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NewType

import strawberry
from graphql import GraphQLError, IntValueNode, ValueNode
from strawberry.types.scalar import ScalarDefinition

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
"""The date-time format of RFC 3339, section 5.6. Digits beyond microseconds are ignored."""


def _serialize_datetime(value: datetime) -> str:
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _parse_datetime(text: object) -> datetime:
    if not isinstance(text, str):
        raise ValueError("A DateTime is text, as RFC 3339 writes it.")
    if not _RFC_3339.fullmatch(text):
        raise ValueError('A DateTime is written as in RFC 3339, for example "2026-11-27T10:00:00Z".')
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError("There is no such date and time.") from error


ByteCount = NewType("ByteCount", int)
MAX_BYTE_COUNT = 2**53 - 1
"""The largest integer that all JSON implementations represent exactly (RFC 8259, section 6)."""
_INVALID_BYTE_COUNT = "A ByteCount is a whole number from 0 to 9007199254740991."


def _byte_count(value: object) -> int:
    """Return the value of a variable as a count. JSON does not distinguish 1.0 from 1, so both are accepted.

    Raises:
        GraphQLError: the value is not a whole number within the limits.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_BYTE_COUNT:
        raise GraphQLError(_INVALID_BYTE_COUNT)  # for other exceptions graphql-core adds the value to the message
    return value


def _parse_byte_count_literal(node: ValueNode, _variables: dict[str, object] | None = None) -> int:
    """Return the value of a literal in a document as a count; only integer literals are accepted, as for Int."""
    if not isinstance(node, IntValueNode) or len(node.value) > len(str(MAX_BYTE_COUNT)):
        raise GraphQLError(_INVALID_BYTE_COUNT, node)
    try:
        return _byte_count(int(node.value))
    except GraphQLError as error:
        raise GraphQLError(error.message, node) from error


SCALARS: dict[object, ScalarDefinition] = {
    datetime: strawberry.scalar(
        name="DateTime",
        description="RFC 3339, UTC",
        specified_by_url="https://www.rfc-editor.org/rfc/rfc3339",
        serialize=_serialize_datetime,
        parse_value=_parse_datetime,
    ),
    ByteCount: strawberry.scalar(
        name="ByteCount",
        description="Whole bytes as a JSON number, 0 to 2^53 - 1",
        serialize=_byte_count,
        parse_value=_byte_count,
        parse_literal=_parse_byte_count_literal,
    ),
}
