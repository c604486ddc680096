"""The undo stack: how to take back each step, written down before the step acts, and run newest first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

Undo = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Entry:
    step: str
    undo: Undo


class Saga:
    """Undos by the step that wrote them down."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []

    def write_down(self, step: str, undo: Undo) -> None:
        self._entries.append(Entry(step, undo))

    def __bool__(self) -> bool:
        return bool(self._entries)

    @property
    def newest_step(self) -> str | None:
        """The step whose undo comes next."""
        return self._entries[-1].step if self._entries else None

    def take_back(self) -> Entry | None:
        """The newest entry, off the stack; None where all is taken back."""
        return self._entries.pop() if self._entries else None
