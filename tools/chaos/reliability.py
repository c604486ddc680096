"""Read and write docs/reliability.md: the table of responses during faults, and the results of the last long run."""

from __future__ import annotations

import re
from pathlib import Path

from tools.chaos.outages import ANSWERED, PROBES, OutageResults

PAGE = Path(__file__).parent.parent.parent / "docs" / "reliability.md"
_RETRYABLE = "retryable"
_LABELS = {ANSWERED: "answers", _RETRYABLE: "try again"}
Table = dict[str, dict[str, str]]
"""By component, then by API operation: ``answers`` or ``try again``."""


def read_table() -> Table:
    """Return the table of the page."""
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in _read_section("table").splitlines()
        if line.startswith("|") and not line.startswith("|-")
    ]
    (_, *parts), *lines = rows
    return {part.strip("`"): {line[0].strip("`"): line[place] for line in lines} for place, part in enumerate(parts, 1)}


def compare_with_table(found: OutageResults, documented: Table) -> list[str]:
    """Return the differences between the measurements and the table.

    If a component is slow or resets some connections, an answer is accepted where the table says ``try again``.
    """
    wrong = []
    for (part, conditions), cells in found.cells.items():
        for name, cell in cells.items():
            word = _LABELS[ANSWERED] if cell.answer == ANSWERED else _LABELS[_RETRYABLE]
            if documented[part][name] == word or (word == _LABELS[ANSWERED] and conditions in ("slow", "reset")):
                continue
            wrong.append(
                f"{name} with {part} {conditions}: {cell.said or cell.answer}; the page says {documented[part][name]}"
            )
    return wrong


def render_table(found: OutageResults) -> str:
    """Return the table of the measurements with each component down or paused."""
    parts = list(dict.fromkeys(part for part, _ in found.cells))
    lines = ["| | " + " | ".join(f"`{part}`" for part in parts) + " |", "|---" * (len(parts) + 1) + "|"]
    for name in PROBES:
        words = []
        for part in parts:
            cells = [
                found.cells[part, conditions][name]
                for conditions in ("down", "paused")
                if (part, conditions) in found.cells
            ]
            fine = all(cell.answer == ANSWERED for cell in cells)
            words.append(_LABELS[ANSWERED] if fine else _LABELS[_RETRYABLE])
        lines.append(f"| `{name}` | " + " | ".join(words) + " |")
    return "\n".join(lines)


def write_section(name: str, text: str) -> None:
    """Replace the section between the markers of this name."""
    page = PAGE.read_text()
    begin, end = _section_markers(name)
    head, _, rest = page.partition(begin)
    _, _, tail = rest.partition(end)
    PAGE.write_text(f"{head}{begin}\n{text.strip()}\n{end}{tail}")


def _read_section(what: str) -> str:
    begin, end = _section_markers(what)
    found = re.search(f"{re.escape(begin)}(.*?){re.escape(end)}", PAGE.read_text(), re.DOTALL)
    assert found, f"{PAGE} has no {begin}"
    return found[1]


def _section_markers(what: str) -> tuple[str, str]:
    return f"<!-- {what} -->", f"<!-- end of {what} -->"
