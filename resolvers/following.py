"""What one connection follows, as far as its transport must know: where a stream stands, and who has a last word."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from contracts.operations import Operation, OperationKind, kind_of

LAST_WORD_SECONDS = 5.0
"""How long after a session's end the switch that ended it may still tell its own end."""
_DOUBT_SECONDS = 0.7
"""How long a switch may be thought to have ended the session before its own state says so."""


class Following:
    """Of one websocket, or of one event stream. ``last_event_id`` is the cursor with which an event stream resumes."""

    def __init__(self, *, last_event_id: str | None = None) -> None:
        self.last_event_id = last_event_id
        self.latest: Operation | None = None
        """The newest state of the operation that was told last; of use where there is one stream."""
        self._switches: dict[object, Operation | None] = {}

    def part(self) -> Following:
        """For one of the socket's streams: it has a newest state of its own."""
        part = Following()
        part._switches = self._switches
        return part

    @contextmanager
    def operation(self, operation_id: str) -> Iterator[Callable[[Operation], None]]:
        """While the block runs it is followed; what the block is given is to be called with each state."""
        is_switch, one = kind_of(operation_id) is OperationKind.TENANT_SWITCH, object()

        def told(state: Operation) -> None:
            self.latest = state
            if is_switch:
                self._switches[one] = state

        if is_switch:
            self._switches[one] = None
        try:
            yield told
        finally:
            self._switches.pop(one, None)

    async def last_word(self) -> bool:
        """Return, now that the session has ended, once the very switch that ended it has told its own end here.

        False where no switch is followed that may have ended it.
        """
        loop = asyncio.get_running_loop()
        ended_at = loop.time()
        has_waited = False
        while self._has_last_word(loop.time() - ended_at):
            has_waited = True
            await asyncio.sleep(0.05)
        return has_waited

    def _has_last_word(self, seconds: float) -> bool:
        if seconds > LAST_WORD_SECONDS:
            return False
        return any(seconds < _DOUBT_SECONDS or _ends_session(state) for state in self._switches.values())


def _ends_session(state: Operation | None) -> bool:
    """Whether the switch is at its last step, which ends the old session, or beyond."""
    return state is not None and state.state.steps[-1].started_at is not None
