"""The log events, log fields, refusals and metrics that the documentation lists are those of the code."""

from __future__ import annotations

import re

import pytest

from infrastructure.observability.audit import AuditEvent, Refusal
from tests.stack import ROOT

SOURCES = "\n".join(
    file.read_text()
    for layer in ("gateway", "resolvers", "activities", "workflows", "worker", "infrastructure")
    for file in (ROOT / layer).rglob("*.py")
)


def names_in_table(page: str, header: str) -> list[str]:
    """Return the names in the first column of the table whose header begins with this cell."""
    (table,) = re.findall(rf"^\| {header} \|.*\n\|[-|]+\n((?:\|.*\n)+)", (ROOT / page).read_text(), re.MULTILINE)
    return re.findall(r"`([\w.]+)`", "\n".join(row.split("|")[1] for row in table.splitlines()))


def test_page_lists_every_refusal() -> None:
    assert sorted(names_in_table("docs/operating.md", "refusal")) == sorted(Refusal)


def test_page_lists_every_audit_event() -> None:
    assert sorted(names_in_table("docs/operating.md", "event")) == sorted(AuditEvent)


@pytest.mark.parametrize("event", names_in_table("docs/operations.md", "event"))
def test_each_listed_log_event_is_logged(event: str) -> None:
    assert f'"{event}"' in SOURCES


@pytest.mark.parametrize("metric", names_in_table("docs/operating.md", "metric"))
def test_each_listed_metric_is_exported(metric: str) -> None:
    assert f'"{metric.removesuffix("_total")}' in SOURCES


@pytest.mark.parametrize("field", names_in_table("docs/operating.md", "field"))
def test_each_listed_log_field_is_written(field: str) -> None:
    assert re.search(rf'\b{field}=|"{field}"', SOURCES)
