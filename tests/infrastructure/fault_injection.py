"""Work that fails a given number of times, for tests of tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class UnexpectedError(Exception):
    """An error that product code does not expect."""


class FailingWork:
    """Work that fails in its first ``failures`` runs and then runs until it is cancelled."""

    def __init__(self, failures: int, fail: Callable[[], object]) -> None:
        self.runs = 0
        self.is_running = asyncio.Event()
        self.was_cancelled = False
        self._failures = failures
        self._fail = fail

    async def __call__(self) -> None:
        self.runs += 1
        if self.runs <= self._failures:
            self._fail()
            return
        self.is_running.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.was_cancelled = True


def raise_unexpected_error() -> None:
    raise UnexpectedError("unexpected")
