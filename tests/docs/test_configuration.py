"""docs/configuration.md lists every environment variable with the default and the docstring of its setting."""

from __future__ import annotations

import re

import pytest
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from gateway.settings import Settings
from tests.stack import ROOT
from tools.configuration_page import page
from worker.dev.settings import DevSettings
from worker.settings import VersionSettings, WorkerSettings

PAGE = (ROOT / "docs" / "configuration.md").read_text()
SECTIONS: dict[str, type[BaseSettings]] = {"Gateway": Settings, "Worker": WorkerSettings, "make dev": DevSettings}
"""The settings class of each section of the page."""


def documented_defaults(heading: str) -> dict[str, str]:
    """Return the default of each variable in the section's table, as written on the page."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `([A-Z_]+)` \| (.+?) \| ", section, re.MULTILINE))


def test_page_equals_the_page_generated_from_the_settings() -> None:
    assert page() == PAGE, "write the page again: python -m tools.configuration_page"


@pytest.mark.parametrize("settings", [*SECTIONS.values(), VersionSettings])
def test_every_setting_has_a_docstring_of_whole_sentences(settings: type[BaseSettings]) -> None:
    docstrings = {name: (field.description or "").strip() for name, field in settings.model_fields.items()}
    assert [name for name, text in docstrings.items() if not text.endswith((".", ".)"))] == []


@pytest.mark.parametrize("heading", SECTIONS)
def test_page_has_every_variable_that_a_process_reads(heading: str) -> None:
    assert list(documented_defaults(heading)) == [name.upper() for name in SECTIONS[heading].model_fields]


@pytest.mark.parametrize("heading", SECTIONS)
def test_each_documented_default_is_that_of_the_settings(heading: str) -> None:
    fields = SECTIONS[heading].model_fields
    for variable, written in documented_defaults(heading).items():
        field = fields[variable.lower()]
        if written == "**required**":
            assert field.default is PydanticUndefined, variable
            assert field.default_factory is None, variable
        elif re.fullmatch(r"`[\d.]+`", written) and written.count(".") < 2:
            assert field.default == float(written.strip("`")), variable
        elif written == "unset":
            assert field.default is None, variable
        elif field.default is not PydanticUndefined and isinstance(field.default, str):
            assert written == f"`{field.default}`", variable


@pytest.mark.parametrize(("variable", "unit"), [("_SECONDS", "Seconds "), ("_DAYS", "Days "), ("_PORT", "TCP port ")])
def test_docstring_of_a_duration_or_port_begins_with_its_unit(variable: str, unit: str) -> None:
    fields = {name: field for settings in SECTIONS.values() for name, field in settings.model_fields.items()}
    named = {name: field.description or "" for name, field in fields.items() if name.upper().endswith(variable)}
    assert named
    assert [name for name, text in named.items() if not text.startswith(unit)] == []
