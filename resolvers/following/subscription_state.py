"""State of the subscriptions of one client connection: the newest result, and the tenant switches that it follows.

A tenant switch ends the session that started it. The connection of that session must stay open until it has delivered
the final state of the switch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import structlog

from contracts.auth import ReplacedSession
from contracts.errors import NotSignedIn
from contracts.operations import Operation, OperationKind, kind_of

FINAL_STATE_TIMEOUT_SECONDS = 5.0
"""How long after a session's end its connection may stay open to deliver the final state of the tenant switch."""
_UNCERTAINTY_SECONDS = 0.7
"""Timeout of the request to the auth service for the switch that ended a session; if it fails, any followed switch may
be the one for this long.
"""

log = structlog.get_logger()


class _Streams:
    """Streams of one connection.

    ``switches`` holds the id and newest state of each followed tenant switch, by stream. ``starting`` holds the streams
    that have not yet said what they follow.
    """

    def __init__(self) -> None:
        self.switches: dict[object, tuple[str, Operation | None]] = {}
        self.starting: set[SubscriptionState] = set()


class SubscriptionState:
    """State of the subscriptions of one websocket or event stream.

    Args:
        last_event_id: Cursor from which an event stream resumes.
        parent: Streams of the websocket that this stream belongs to.
    """

    def __init__(self, *, last_event_id: str | None = None, parent: _Streams | None = None) -> None:
        self.last_event_id = last_event_id
        self.latest: Operation | None = None
        """The newest state that was delivered; meaningful if there is only one stream."""
        self._streams = _Streams()
        self._all_streams = (self._streams,) if parent is None else (self._streams, parent)

    def child(self) -> SubscriptionState:
        """Return the state of one stream of this websocket: it does not wait for tenant switches of other streams."""
        return SubscriptionState(parent=self._streams)

    def mark_starting(self) -> None:
        """Count this stream as possibly following a switch until ``following`` or ``mark_started`` is called."""
        for streams in self._all_streams:
            streams.starting.add(self)

    def mark_started(self) -> None:
        """State that the stream follows no tenant switch, or has ended."""
        for streams in self._all_streams:
            streams.starting.discard(self)

    @contextmanager
    def following(self, operation_id: str) -> Iterator[Callable[[Operation], None]]:
        """Count the operation as followed while the block runs; call the yielded function with each new state."""
        is_switch, stream = kind_of(operation_id) is OperationKind.TENANT_SWITCH, object()

        def set_state(state: Operation | None) -> None:
            for streams in self._all_streams if is_switch else ():
                streams.switches[stream] = operation_id, state

        def on_state(state: Operation) -> None:
            self.latest = state
            set_state(state)

        set_state(None)
        self.mark_started()
        try:
            yield on_state
        finally:
            for streams in self._all_streams:
                streams.switches.pop(stream, None)

    async def wait_for_final_state(self, find_replaced_session: Callable[[], Awaitable[ReplacedSession]]) -> bool:
        """Wait, after the session has ended, until the tenant switch that ended it has delivered its final state.

        Args:
            find_replaced_session: Asks the auth service for the ended session and the switch that ended it; raises
                NotSignedIn if no switch has ended it.

        Returns:
            False, without waiting, if no tenant switch is followed and no stream is starting; otherwise True.
        """
        if not self._streams.switches and not self._streams.starting:
            return False
        loop = asyncio.get_running_loop()
        ended_at = loop.time()
        try:
            async with asyncio.timeout(_UNCERTAINTY_SECONDS):
                replaced = await find_replaced_session()
        except NotSignedIn:
            return True
        except Exception as error:  # noqa: BLE001 - a failed lookup must not keep an ended session open
            log.warning("replaced_session_lookup_failed", error=repr(error))
            replaced = None
        while True:
            if not self._is_final_state_due(loop.time() - ended_at, replaced):
                return True
            await asyncio.sleep(0.05)

    def _is_final_state_due(self, seconds: float, replaced: ReplacedSession | None) -> bool:
        """Return whether the final state of a switch may still arrive ``seconds`` after the session's end."""
        if seconds > FINAL_STATE_TIMEOUT_SECONDS:
            return False
        if self._streams.starting and seconds < _UNCERTAINTY_SECONDS:
            return True
        if replaced is not None:
            return any(replaced.was_ended_by(operation_id) for operation_id, _ in self._streams.switches.values())
        return any(
            seconds < _UNCERTAINTY_SECONDS or _ends_session(state) for _, state in self._streams.switches.values()
        )


def _ends_session(state: Operation | None) -> bool:
    """Return whether the tenant switch has reached its last step, which ends the old session."""
    return state is not None and state.state.steps[-1].started_at is not None
