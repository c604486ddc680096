"""The numbers in the README and the documentation equal those in the code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from gateway.http import persisted_queries as documents
from gateway.settings import Settings
from infrastructure import circuit_breaker as breakers
from resolvers.following.long_poll_quota import MAX_LONG_POLLS
from schema.execution import document_cache as execution
from schema.execution.query_cost import Limits
from tests.stack import ROOT
from worker.settings import VersionSettings, WorkerSettings

WORDS = {"two": 2, "five": 5, "ten": 10}
LIMITS = Limits()


def defaults(settings: type[BaseSettings]) -> dict[str, Any]:
    return {name.upper(): field.default for name, field in settings.model_fields.items()}


def variables() -> Iterator[tuple[str, str, str]]:
    """Yield each variable of the README's table with its default in the gateway and in the worker, as written."""
    for row in re.findall(r"^\| `[A-Z_]+`.*$", (ROOT / "README.md").read_text(), re.MULTILINE):
        names, gateway, worker, *_ = (cell.strip() for cell in row.strip("|").split("|"))
        found = re.findall(r"`([A-Z_]+)`", names)
        for n, name in enumerate(found):
            yield name, *(_nth(column, n, len(found)) for column in (gateway, worker))


def _nth(column: str, n: int, count: int) -> str:
    parts = re.split(r", (?!\d{3})", column)
    return (parts[n] if len(parts) == count else column).strip("` ")


@pytest.mark.parametrize(("name", "gateway", "worker"), list(variables()))
def test_each_default_of_the_readme_is_that_of_the_settings(name: str, gateway: str, worker: str) -> None:
    for written, settings in ((gateway, Settings), (worker, WorkerSettings)):
        values = defaults(settings)
        if written == "required":
            # The gateway needs SERVICE_KEY where a service has no key of its own: its settings check them together.
            assert values[name] is PydanticUndefined or (name, settings) == ("SERVICE_KEY", Settings)
        elif re.fullmatch(r"[\d,.]+", written) and written.count(".") < 2:
            assert values[name] == float(written.replace(",", "")), name
        elif written in {".data", "127.0.0.1", "http://127.0.0.1:8090"}:
            assert str(values[name]) == written


def test_the_readme_has_every_variable_that_a_process_reads() -> None:
    written = set(re.findall(r"`([A-Z][A-Z_]+)`", (ROOT / "README.md").read_text()))
    read = {*defaults(Settings), *defaults(WorkerSettings), *defaults(VersionSettings)}
    assert read - written == set()


FACTS: list[tuple[str, str, float]] = [
    ("docs/reads.md", r"failed (\w+) times in a row", breakers.FAILURES),
    ("docs/reads.md", r"lets one call try after\s+(\w+) seconds", breakers.REST_SECONDS),
    ("docs/security.md", r"\| bytes, tokens \| ([\d,]+), [\d,]+ \|", LIMITS.bytes),
    ("docs/security.md", r"\| bytes, tokens \| [\d,]+, ([\d,]+) \|", LIMITS.tokens),
    ("docs/security.md", r"\| fields within each other \| (\d+) \|", LIMITS.depth),
    ("docs/security.md", r"\| aliases \| (\d+) \|", LIMITS.aliases),
    ("docs/security.md", r"\| fields at the root \| (\d+) \|", LIMITS.root_fields),
    ("docs/security.md", r"\| directives \| (\d+) \|", LIMITS.directives),
    ("docs/security.md", r"\| cost of the operation that is carried out \| ([\d,]+) \|", LIMITS.cost),
    (
        "docs/security.md",
        r"\| values in the variables, and within each other \| ([\d,]+), \d+ \|",
        execution.MOST_VALUES,
    ),
    (
        "docs/security.md",
        r"\| values in the variables, and within each other \| [\d,]+, (\d+) \|",
        execution.MOST_NESTED,
    ),
    ("docs/security.md", r"was valid is kept \(([\d,]+) documents", execution.MOST_DOCUMENTS),
    ("docs/security.md", r"documents and ([\d,]+) tokens a process", execution.MOST_TOKENS),
    ("docs/security.md", r"in one of ([\d,]+) places of the shared cache", documents.MOST_SHARED),
    ("docs/subscriptions.md", r"sends a `ping` every (\d+) s", defaults(Settings)["PING_INTERVAL_SECONDS"]),
    (
        "docs/subscriptions.md",
        r"nothing at all for (\d+) s after one is closed",
        defaults(Settings)["PONG_TIMEOUT_SECONDS"],
    ),
    (
        "docs/subscriptions.md",
        r"takes nothing of what\s+is sent to a client for (\d+) s",
        defaults(Settings)["WRITE_TIMEOUT_SECONDS"],
    ),
    ("docs/subscriptions.md", r"A comment \(`:`\) comes every (\d+) s", defaults(Settings)["PING_INTERVAL_SECONDS"]),
    ("docs/subscriptions.md", r"A part `\{\}` comes every (\d+) s", defaults(Settings)["PING_INTERVAL_SECONDS"]),
    (
        "docs/subscriptions.md",
        r"A socket carries (\d+) operations at a time",
        defaults(Settings)["MAX_OPERATIONS_PER_SOCKET"],
    ),
    ("docs/subscriptions.md", r"more than (\d+) messages a minute", defaults(Settings)["SOCKET_MESSAGES_PER_MINUTE"]),
    (
        "docs/subscriptions.md",
        r"no `connection_init` within (\d+) s",
        defaults(Settings)["CONNECTION_INIT_TIMEOUT_SECONDS"],
    ),
    ("docs/subscriptions.md", r"over `DRAIN_SECONDS` \((\d+);", defaults(Settings)["DRAIN_SECONDS"]),
    ("README.md", r"`MAX_LONG_POLLS` \| ([\d,]+) \|", MAX_LONG_POLLS),
]
"""Page, pattern with the number as its group, and the number in the code."""


@pytest.mark.parametrize(("page", "pattern", "value"), FACTS, ids=[pattern for _, pattern, _ in FACTS])
def test_a_number_of_the_documentation_is_that_of_the_code(page: str, pattern: str, value: float) -> None:
    (written,) = re.findall(pattern, (ROOT / page).read_text())
    assert (WORDS.get(written) or float(written.replace(",", ""))) == value
