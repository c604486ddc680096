"""``python -m tools.configuration_page``: writes docs/configuration.md from the docstrings of the settings classes."""

from __future__ import annotations

import json
import re
from enum import Enum
from pathlib import Path

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from gateway.settings import Settings
from worker.dev.settings import DevSettings
from worker.settings import WorkerSettings

PAGE = Path(__file__).parent.parent / "docs" / "configuration.md"

PROCESSES: tuple[tuple[str, str, type[BaseSettings]], ...] = (
    ("Gateway", "`python -m gateway` reads these variables.", Settings),
    (
        "Worker",
        (
            "`python -m worker DOMAIN` reads these variables. `python -m worker.migrate` reads `DATABASE_URL`, and "
            "`python -m worker.versions` reads those of Temporal and of the version."
        ),
        WorkerSettings,
    ),
    (
        "make dev",
        "`make dev` runs all processes in one and sets their variables itself. It reads only these variables.",
        DevSettings,
    ),
)
"""Heading, introduction and settings class of each process."""

_BEGIN = "<!-- settings: written by `python -m tools.configuration_page` -->"
_END = "<!-- end of settings -->"


def page() -> str:
    """Return the text of docs/configuration.md with new tables; the text before and after the tables is kept."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(_BEGIN)
    _, _, after = rest.partition(_END)
    sections = [_section(*process) for process in PROCESSES]
    return "\n".join([f"{before}{_BEGIN}", "", *sections, f"{_END}{after}"])


def _section(heading: str, introduction: str, settings: type[BaseSettings]) -> str:
    rows = [
        f"| `{name.upper()}` | {_default(field)} | {_meaning(field.description or '')} |"
        for name, field in settings.model_fields.items()
    ]
    return "\n".join(
        [f"## {heading}", "", introduction, "", "| variable | default | meaning |", "|---|---|---|", *rows, ""]
    )


def _default(field: FieldInfo) -> str:
    """Return the default as the text that an environment variable would have."""
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True, validated_data={})
    match value:
        case None:
            return "unset"
        case bool():
            return f"`{str(value).lower()}`"
        case Enum():
            return f"`{value.value}`"
        case float():
            return f"`{value:g}`"
        case tuple() | dict():
            return f"`{json.dumps(value)}`"
        case _:
            assert value is not PydanticUndefined
            return f"`{value}`"


def _meaning(docstring: str) -> str:
    """Return the docstring in one line of Markdown, with links to pages and with names of variables as code."""
    parts = " ".join(docstring.split()).replace("|", "\\|").split("`")
    parts[::2] = [_linked(part) for part in parts[::2]]
    return "`".join(parts)


def _linked(text: str) -> str:
    text = re.sub(r"\b[A-Z]+(?:_[A-Z]+)+\b", r"`\g<0>`", text)
    return re.sub(r"docs/(\w+)\.md", r"[\1](\1.md)", text)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
