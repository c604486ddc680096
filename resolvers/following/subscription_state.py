"""What one connection follows, as far as its transport must know: where a stream stands, and who has a last word."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import structlog

from contracts.auth import ReplacedSession
from contracts.errors import NotSignedIn
from contracts.operations import Operation, OperationKind, kind_of

LAST_WORD_SECONDS = 5.0
"""How long after a session's end the switch that ended it may still tell its own end."""
_DOUBT_SECONDS = 0.7
"""How long a switch may be thought to have ended the session where only its own state tells, and how long the auth
service may take to tell which one did."""

log = structlog.get_logger()


class _Streams:
    """Of one connection or stream. ``switches``: the id and the newest state of each switch of tenant that is followed,
    by its stream. ``starting``: the streams of which it is not known yet whether they follow a switch.
    """

    def __init__(self) -> None:
        self.switches: dict[object, tuple[str, Operation | None]] = {}
        self.starting: set[SubscriptionState] = set()


class SubscriptionState:
    """Of one websocket, or of one event stream. ``last_event_id`` is the cursor with which an event stream resumes."""

    def __init__(self, *, last_event_id: str | None = None, whole: _Streams | None = None) -> None:
        self.last_event_id = last_event_id
        self.latest: Operation | None = None
        """The newest state of the operation that was told last; of use where there is one stream."""
        self._streams = _Streams()
        self._counted_in = (self._streams,) if whole is None else (self._streams, whole)

    def part(self) -> SubscriptionState:
        """For one of the socket's streams: it has a newest state of its own, and waits for no other stream's switch."""
        return SubscriptionState(whole=self._streams)

    def start(self) -> None:
        """A stream starts. Until ``operation`` or ``settle`` is called, it may turn out to follow a switch."""
        for each in self._counted_in:
            each.starting.add(self)

    def settle(self) -> None:
        """The stream follows no switch, or has ended."""
        for each in self._counted_in:
            each.starting.discard(self)

    @contextmanager
    def operation(self, operation_id: str) -> Iterator[Callable[[Operation], None]]:
        """While the block runs it is followed; what the block is given is to be called with each state."""
        is_switch, one = kind_of(operation_id) is OperationKind.TENANT_SWITCH, object()

        def note(state: Operation | None) -> None:
            for each in self._counted_in if is_switch else ():
                each.switches[one] = operation_id, state

        def told(state: Operation) -> None:
            self.latest = state
            note(state)

        note(None)
        self.settle()
        try:
            yield told
        finally:
            for each in self._counted_in:
                each.switches.pop(one, None)

    async def last_word(self, handed_over: Callable[[], Awaitable[ReplacedSession]]) -> bool:
        """Return, now that the session has ended, once the very switch that ended it has told its own end here.

        ``handed_over`` asks which one that was, and raises NotSignedIn where it was none. False where no switch is
        followed here at all, and no stream is starting that could follow one.
        """
        if not self._streams.switches and not self._streams.starting:
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

    def _has_last_word(self, seconds: float, before: ReplacedSession | None) -> bool:
        if seconds > LAST_WORD_SECONDS:
            return False
        if self._streams.starting and seconds < _DOUBT_SECONDS:
            return True
        if before is not None:
            return any(before.was_ended_by(operation_id) for operation_id, _ in self._streams.switches.values())
        return any(seconds < _DOUBT_SECONDS or _ends_session(state) for _, state in self._streams.switches.values())


def _ends_session(state: Operation | None) -> bool:
    """Whether the switch is at its last step, which ends the old session, or beyond."""
    return state is not None and state.state.steps[-1].started_at is not None
