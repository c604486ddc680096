"""docs/reliability.md: its table of answers, which tests read, and the figures of the last long run."""

from __future__ import annotations

import re
from pathlib import Path

from tools.chaos.outages import ANSWERS, PROBES, Measured

PAGE = Path(__file__).parent.parent.parent / "docs" / "reliability.md"
_RETRYABLE = "retryable"
_WORDS = {ANSWERS: "answers", _RETRYABLE: "try again"}
Table = dict[str, dict[str, str]]
"""By part, then by operation: ``answers`` or ``try again``."""


def table() -> Table:
    """As it stands on the page."""
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in _between("table").splitlines()
        if line.startswith("|") and not line.startswith("|-")
    ]
    (_, *parts), *lines = rows
    return {part.strip("`"): {line[0].strip("`"): line[place] for line in lines} for place, part in enumerate(parts, 1)}


def unlike(found: Measured, told: Table) -> list[str]:
    """Where what was measured is not what the table tells. A part that is slow or resets some connections may be
    survived: there an answer is as good as the advice to try again."""
    wrong = []
    for (part, weather), cells in found.cells.items():
        for name, cell in cells.items():
            word = _WORDS[ANSWERS] if cell.answer == ANSWERS else _WORDS[_RETRYABLE]
            if told[part][name] == word or (word == _WORDS[ANSWERS] and weather in ("slow", "reset")):
                continue
            wrong.append(
                f"{name} with {part} {weather}: {cell.said or cell.answer}, and the page says {told[part][name]}"
            )
    return wrong


def written(found: Measured) -> str:
    """The table, by what was measured with each part down or paused."""
    parts = list(dict.fromkeys(part for part, _ in found.cells))
    lines = ["| | " + " | ".join(f"`{part}`" for part in parts) + " |", "|---" * (len(parts) + 1) + "|"]
    for name in PROBES:
        words = []
        for part in parts:
            cells = [
                found.cells[part, weather][name] for weather in ("down", "paused") if (part, weather) in found.cells
            ]
            fine = all(cell.answer == ANSWERS for cell in cells)
            words.append(_WORDS[ANSWERS] if fine else _WORDS[_RETRYABLE])
        lines.append(f"| `{name}` | " + " | ".join(words) + " |")
    return "\n".join(lines)


def put(what: str, text: str) -> None:
    """Replace what stands between the marks of this name."""
    page = PAGE.read_text()
    begin, end = _marks(what)
    head, _, rest = page.partition(begin)
    _, _, tail = rest.partition(end)
    PAGE.write_text(f"{head}{begin}\n{text.strip()}\n{end}{tail}")


def _between(what: str) -> str:
    begin, end = _marks(what)
    found = re.search(f"{re.escape(begin)}(.*?){re.escape(end)}", PAGE.read_text(), re.DOTALL)
    assert found, f"{PAGE} has no {begin}"
    return found[1]


def _marks(what: str) -> tuple[str, str]:
    return f"<!-- {what} -->", f"<!-- end of {what} -->"
