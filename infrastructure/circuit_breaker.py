"""A circuit breaker per service: after several failures in a row, calls of the service fail at once for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
from purgatory import AsyncCircuitBreakerFactory, Event
from purgatory.domain.model import CLOSED, HALF_OPENED, OPENED, Context

from contracts.errors import ServiceUnavailable

FAILURE_THRESHOLD = 5
"""Failures in a row after which the breaker opens."""
OPEN_SECONDS = 2.0
"""Time for which the breaker stays open before it lets a trial call pass (half open)."""

log = structlog.get_logger()


class CircuitBreaker:
    """Purgatory's circuit breaker for the calls of one service, with a single trial call while it is half open.

    Each exception that a call raises counts as a failure. A cancelled call counts neither as success nor as failure.
    """

    def __init__(
        self, service: str, *, failure_threshold: int = FAILURE_THRESHOLD, open_seconds: float = OPEN_SECONDS
    ) -> None:
        self._service = service
        self._open_seconds = open_seconds
        self._circuits = AsyncCircuitBreakerFactory(default_threshold=failure_threshold, default_ttl=open_seconds)
        self._circuits.add_listener(self._record_change)
        self._has_trial_call = False
        self.is_open = False
        """Whether calls other than a trial call fail at once."""

    @asynccontextmanager
    async def guard(self) -> AsyncIterator[None]:
        """Count the success or failure of the block, which calls the service.

        Raises:
            ServiceUnavailable: The breaker is open; ``retry_after`` says for how many seconds.
        """
        circuit = await self._circuits.get_breaker(self._service)
        self._check_state(circuit.context)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(circuit)
            is_trial = self._has_trial_call = circuit.context.state == HALF_OPENED
            try:
                yield
            except asyncio.CancelledError:
                stack.pop_all()  # purgatory does not see the end of the call, so it counts nothing
                raise
            finally:
                if is_trial:
                    self._has_trial_call = False

    def _check_state(self, circuit: Context) -> None:
        """Raise ServiceUnavailable if the breaker is open.

        Purgatory checks the same, but raises one exception object repeatedly, whose traceback grows with each raise.
        """
        if circuit.state == OPENED and circuit.opened_at is not None:
            seconds = circuit.opened_at + self._open_seconds - time.time()
            if seconds >= 0:
                raise ServiceUnavailable(service=self._service, retry_after=round(seconds + 0.05, 1))
        if self._has_trial_call:
            raise ServiceUnavailable(service=self._service, retry_after=1.0)

    def _record_change(self, _circuit: str, kind: str, event: Event) -> None:
        if kind == "state_changed":
            self.is_open = getattr(event, "state", None) != CLOSED
            log.warning("circuit_breaker_changed", service=self._service, state=getattr(event, "state", None))
