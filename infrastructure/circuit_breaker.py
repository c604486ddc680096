"""A breaker for each service: one that failed several times in a row is left alone for a while, and costs nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
from purgatory import AsyncCircuitBreakerFactory, Event
from purgatory.domain.model import CLOSED, HALF_OPENED, OPENED, Context

from contracts.errors import ServiceUnavailable

FAILURES = 5
"""In a row, after which the breaker opens."""
REST_SECONDS = 2.0
"""How long it stays open before one call may try."""

log = structlog.get_logger()


class CircuitBreaker:
    """Purgatory's circuit breaker around the calls of one service, with a single trial call while it is half open.

    What is raised within counts as a failure; a call that was cancelled tells nothing of the service.
    """

    def __init__(self, service: str, *, failures: int = FAILURES, rest_seconds: float = REST_SECONDS) -> None:
        self._service = service
        self._rest_seconds = rest_seconds
        self._circuits = AsyncCircuitBreakerFactory(default_threshold=failures, default_ttl=rest_seconds)
        self._circuits.add_listener(self._note)
        self._trying = False
        self.is_open = False
        """Whether the service is left alone, a trial call aside."""

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Judge the service by the call within. ServiceUnavailable at once, with ``retry_after``, while it is open."""
        circuit = await self._circuits.get_breaker(self._service)
        self._admit(circuit.context)
        async with AsyncExitStack() as judgement:
            await judgement.enter_async_context(circuit)
            tries = self._trying = circuit.context.state == HALF_OPENED
            try:
                yield
            except asyncio.CancelledError:
                judgement.pop_all()
                raise
            finally:
                if tries:
                    self._trying = False

    def _admit(self, circuit: Context) -> None:
        """Ask before purgatory does: it raises one and the same exception each time, which grows a traceback."""
        if circuit.state == OPENED and circuit.opened_at is not None:
            seconds = circuit.opened_at + self._rest_seconds - time.time()
            if seconds >= 0:
                raise ServiceUnavailable(service=self._service, retry_after=round(seconds + 0.05, 1))
        if self._trying:
            raise ServiceUnavailable(service=self._service, retry_after=1.0)

    def _note(self, _circuit: str, event: str, facts: Event) -> None:
        if event == "state_changed":
            self.is_open = getattr(facts, "state", None) != CLOSED
            log.warning("a breaker changed", service=self._service, state=getattr(facts, "state", None))
