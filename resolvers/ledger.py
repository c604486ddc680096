"""What one execution asks of others, counted for whoever is writing a document: in development only.

Nothing is counted where no ledger is open, and none is where nobody reads it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias

LinkOf: TypeAlias = Callable[[str], str | None]
"""From an operation's id to where a developer sees all of it."""

_MOST_OPERATIONS = 20
_open: ContextVar[Ledger | None] = ContextVar("ledger", default=None)


class Ledger:
    """Of one execution. What several ask for together stands in the ledger of the one who asked first."""

    def __init__(self) -> None:
        self._calls = dict.fromkeys(("services", "temporal", "redis"), 0)
        self._seconds = dict.fromkeys(self._calls, 0.0)
        self.hits = self.misses = 0
        self._operations: dict[str, None] = {}

    def add(self, part: str, seconds: float) -> None:
        self._calls[part] += 1
        self._seconds[part] += seconds

    def note(self, operation_id: str) -> None:
        if len(self._operations) < _MOST_OPERATIONS:
            self._operations[operation_id] = None

    def told(self, link_of: LinkOf) -> dict[str, object]:
        """As ``extensions.trace`` shows it."""
        parts = {
            part: {"calls": calls, "ms": round(self._seconds[part] * 1000, 1)} for part, calls in self._calls.items()
        }
        operations = [{"id": id, "temporalUrl": link_of(id)} for id in self._operations]
        return {**parts, "cache": {"hits": self.hits, "misses": self.misses}, "operations": operations}


def open_ledger() -> Ledger:
    """Of what is done from now on in this task and those that it starts."""
    ledger = Ledger()
    _open.set(ledger)
    return ledger


def ledger() -> Ledger | None:
    return _open.get()


@contextmanager
def counted(part: str) -> Iterator[None]:
    """The block is one call of that part."""
    began = time.perf_counter()
    try:
        yield
    finally:
        open_one = _open.get()
        if open_one is not None:
            open_one.add(part, time.perf_counter() - began)
