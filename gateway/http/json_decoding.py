"""Decode JSON of clients with limits on its depth and its number of values, and encode JSON in one line."""

from __future__ import annotations

import json

MAX_DEPTH = 32
"""Levels of arrays and objects within each other."""
MAX_BRACKETS = 20_000
"""Opening brackets, those in strings included. The longest valid document has fewer. Decoding 80,000 empty arrays takes
0.1 s.
"""


class InvalidJson(ValueError):
    """The text is not JSON that the gateway accepts; the message gives the reason."""


def read_json(data: str | bytes, *, what: str = "body") -> object:
    """Decode JSON of a client.

    Args:
        what: names the text in the error message, for instance ``parameter variables``.

    Raises:
        InvalidJson: the text is not JSON, exceeds a limit, or contains an unpaired surrogate.
    """
    try:
        text = data if isinstance(data, str) else data.decode()
        brackets = text.count("[") + text.count("{")
        if brackets > MAX_BRACKETS:
            raise InvalidJson("The JSON holds too many values.")
        value: object = json.loads(text, parse_constant=_reject_constant)
    except InvalidJson:
        raise
    except (ValueError, RecursionError) as error:
        raise InvalidJson(f"The {what} is not JSON.") from error
    if brackets > MAX_DEPTH and _is_too_deep(value):
        raise InvalidJson(f"The JSON is nested too deeply: at most {MAX_DEPTH} values may lie within each other.")
    if "\\ud" in text.lower() and not _is_unicode(value):
        raise InvalidJson("The JSON has half a character: a surrogate without its pair.")
    return value


def encode_json(value: object) -> str:
    """Encode the value in one line, without spaces."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _is_too_deep(value: object) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return False
    return True


def _children(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _is_unicode(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _reject_constant(name: str) -> object:
    """Reject NaN and Infinity, which Python's decoder would accept."""
    raise ValueError(f"{name} is no JSON")
