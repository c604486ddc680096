"""What one connection follows, as far as its transport must know: where a stream stands, and who has a last word."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import structlog

from contracts.auth import HandedOverSession
from contracts.errors import NotSignedIn
from contracts.operations import Operation, OperationKind, kind_of

LAST_WORD_SECONDS = 5.0
"""How long after a session's end the switch that ended it may still tell its own end."""
_DOUBT_SECONDS = 0.7
"""How long a switch may be thought to have ended the session where only its own state tells, and how long the auth
service may take to tell which one did."""

Switches: TypeAlias = dict[object, tuple[str, Operation | None]]
"""The switches of tenant that are followed, by who follows them: each one's id and newest state."""

log = structlog.get_logger()


class Following:
    """Of one websocket, or of one event stream. ``last_event_id`` is the cursor with which an event stream resumes."""

    def __init__(self, *, last_event_id: str | None = None, whole: Switches | None = None) -> None:
        self.last_event_id = last_event_id
        self.latest: Operation | None = None
        """The newest state of the operation that was told last; of use where there is one stream."""
        self._switches: Switches = {}
        self._followed_by = (self._switches,) if whole is None else (self._switches, whole)

    def part(self) -> Following:
        """For one of the socket's streams: it has a newest state of its own, and waits for no other stream's switch."""
        return Following(whole=self._switches)

    @contextmanager
    def operation(self, operation_id: str) -> Iterator[Callable[[Operation], None]]:
        """While the block runs it is followed; what the block is given is to be called with each state."""
        is_switch, one = kind_of(operation_id) is OperationKind.TENANT_SWITCH, object()

        def note(state: Operation | None) -> None:
            for switches in self._followed_by if is_switch else ():
                switches[one] = operation_id, state

        def told(state: Operation) -> None:
            self.latest = state
            note(state)

        note(None)
        try:
            yield told
        finally:
            for switches in self._followed_by:
                switches.pop(one, None)

    async def last_word(self, handed_over: Callable[[], Awaitable[HandedOverSession]]) -> bool:
        """Return, now that the session has ended, once the very switch that ended it has told its own end here.

        ``handed_over`` asks which one that was, and raises NotSignedIn where it was none. False where no switch is
        followed here at all.
        """
        if not self._switches:
            return False
        loop = asyncio.get_running_loop()
        ended_at = loop.time()
        try:
            async with asyncio.timeout(_DOUBT_SECONDS):
                before = await handed_over()
        except NotSignedIn:
            return True
        except Exception as error:  # noqa: BLE001 - whatever it is, a session that has ended ends here
            log.warning("nobody tells what ended a session", error=repr(error))
            before = None
        while True:
            if not self._has_last_word(loop.time() - ended_at, before):
                return True
            await asyncio.sleep(0.05)

    def _has_last_word(self, seconds: float, before: HandedOverSession | None) -> bool:
        if seconds > LAST_WORD_SECONDS:
            return False
        if before is not None:
            return any(before.was_ended_by(operation_id) for operation_id, _ in self._switches.values())
        return any(seconds < _DOUBT_SECONDS or _ends_session(state) for _, state in self._switches.values())


def _ends_session(state: Operation | None) -> bool:
    """Whether the switch is at its last step, which ends the old session, or beyond."""
    return state is not None and state.state.steps[-1].started_at is not None
