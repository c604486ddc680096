"""The numbers in the documentation equal those in the code."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic_settings import BaseSettings

from gateway.http import persisted_queries
from gateway.settings import Settings
from infrastructure import circuit_breaker
from schema.execution import document_cache
from schema.execution.query_cost import QueryLimits
from tests.stack import ROOT
from workflows.options import EXTERNAL, NETWORK, TIMEOUT

NUMBER_WORDS = {"two": 2, "five": 5, "ten": 10}
LIMITS = QueryLimits()


def defaults(settings: type[BaseSettings]) -> dict[str, Any]:
    """Return the default of each environment variable of a process."""
    return {name.upper(): field.default for name, field in settings.model_fields.items()}


FACTS: list[tuple[str, str, float]] = [
    ("docs/operations.md", r"\| network error, or an unknown error \| (\d+) \|", NETWORK.max_attempts),
    ("docs/operations.md", r"\| network error, or an unknown error \| \d+ \| (\d+) s \|", NETWORK.first_delay_seconds),
    ("docs/operations.md", r"\| timeout \| (\d+) \|", TIMEOUT.max_attempts),
    ("docs/operations.md", r"\| timeout \| \d+ \| (\d+) s \|", TIMEOUT.first_delay_seconds),
    ("docs/operations.md", r"\| error of an external service or the mail server \| (\d+) \|", EXTERNAL.max_attempts),
    (
        "docs/operations.md",
        r"\| error of an external service or the mail server \| \d+ \| (\d+) s \|",
        EXTERNAL.first_delay_seconds,
    ),
    ("docs/reads.md", r"failed (\w+) times in a row", circuit_breaker.FAILURE_THRESHOLD),
    ("docs/reads.md", r"lets one call try after\s+(\w+) seconds", circuit_breaker.OPEN_SECONDS),
    ("docs/security.md", r"\| bytes, tokens \| ([\d,]+), [\d,]+ \|", LIMITS.bytes),
    ("docs/security.md", r"\| bytes, tokens \| [\d,]+, ([\d,]+) \|", LIMITS.tokens),
    ("docs/security.md", r"\| depth of fields \| (\d+) \|", LIMITS.depth),
    ("docs/security.md", r"\| aliases \| (\d+) \|", LIMITS.aliases),
    ("docs/security.md", r"\| fields at the root \| (\d+) \|", LIMITS.root_fields),
    ("docs/security.md", r"\| directives \| (\d+) \|", LIMITS.directives),
    ("docs/security.md", r"\| cost of the executed operation \| ([\d,]+) \|", LIMITS.cost),
    (
        "docs/security.md",
        r"\| values in the variables, and their depth \| ([\d,]+), \d+ \|",
        document_cache.MAX_VARIABLE_VALUES,
    ),
    (
        "docs/security.md",
        r"\| values in the variables, and their depth \| [\d,]+, (\d+) \|",
        document_cache.MAX_VARIABLE_DEPTH,
    ),
    ("docs/security.md", r"valid documents are cached \(([\d,]+) documents", document_cache.MAX_CACHED_DOCUMENTS),
    ("docs/security.md", r"documents and ([\d,]+) tokens per process", document_cache.MAX_CACHED_TOKENS),
    ("docs/security.md", r"in one of ([\d,]+) slots of the shared cache", persisted_queries.MAX_SHARED_DOCUMENTS),
    ("docs/subscriptions.md", r"sends a `ping` every (\d+) s", defaults(Settings)["PING_INTERVAL_SECONDS"]),
    (
        "docs/subscriptions.md",
        r"sends no message for (\d+) s after a ping",
        defaults(Settings)["PONG_TIMEOUT_SECONDS"],
    ),
    (
        "docs/subscriptions.md",
        r"reads nothing for (\d+) s, the gateway",
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
]
"""Page, pattern with the number as its group, and the number in the code."""


@pytest.mark.parametrize(("page", "pattern", "value"), FACTS, ids=[pattern for _, pattern, _ in FACTS])
def test_each_documented_number_equals_the_number_in_the_code(page: str, pattern: str, value: float) -> None:
    (written,) = re.findall(pattern, (ROOT / page).read_text())
    assert (NUMBER_WORDS.get(written) or float(written.replace(",", ""))) == value
