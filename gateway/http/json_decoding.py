"""JSON as it comes from clients: only what can be passed on, and nothing that is nested without end."""

from __future__ import annotations

import json

MOST_NESTED = 32
"""Arrays and objects within each other."""
MOST_BRACKETS = 20_000
"""That open one, in texts, too: more than the longest document has. Eighty thousand empty arrays take a tenth of a
second to look at.
"""


class InvalidJson(ValueError):
    """It is not taken; says why."""


def read_json(data: str | bytes, *, what: str = "body") -> object:
    """Its value. Raises BadJson, which names ``what`` is not JSON."""
    try:
        text = data if isinstance(data, str) else data.decode()
        brackets = text.count("[") + text.count("{")
        if brackets > MOST_BRACKETS:
            raise InvalidJson("The JSON holds too many values.")
        value: object = json.loads(text, parse_constant=_no_number)
    except InvalidJson:
        raise
    except (ValueError, RecursionError) as error:
        raise InvalidJson(f"The {what} is not JSON.") from error
    if brackets > MOST_NESTED and _is_deep(value):
        raise InvalidJson(f"The JSON is nested too deeply: at most {MOST_NESTED} values may lie within each other.")
    if "\\ud" in text.lower() and not _is_unicode(value):
        raise InvalidJson("The JSON has half a character: a surrogate without its pair.")
    return value


def encode_json(value: object) -> str:
    """Return the value in one line, without spaces."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _is_deep(value: object) -> bool:
    level = [value]
    for _ in range(MOST_NESTED + 1):
        level = [part for each in level for part in _parts(each)]
        if not level:
            return False
    return True


def _parts(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _is_unicode(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _no_number(name: str) -> object:
    raise ValueError(f"{name} is no JSON")
