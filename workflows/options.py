"""The named timeouts and retries of every activity call, in one place.

Each activity classes its own trouble (see ``worker/interceptors.py``): network trouble, a timeout or an external service, and
is tried again as often as its class says. What answers (a DomainError) is final. The policy of a call below is the outer bound,
which also covers what no activity can class: a worker that died.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from temporalio.common import RetryPolicy


@dataclass(frozen=True)
class Retry:
    """How often a class of trouble is tried in all, and the seconds before the second try; doubled each time."""

    tries: int
    first_seconds: float

    def delay(self, attempt: int) -> timedelta:
        """What to wait after the given try (1 is the first)."""
        return timedelta(seconds=self.first_seconds * 2 ** (attempt - 1))


NETWORK = Retry(tries=3, first_seconds=1)
TIMEOUT = Retry(tries=2, first_seconds=5)
EXTERNAL = Retry(tries=5, first_seconds=2)


@dataclass(frozen=True)
class CallOptions:
    """``start_to_close``: one try's deadline. ``heartbeat``: how long a try may be silent before it is taken for dead."""

    start_to_close: timedelta
    retry: RetryPolicy
    heartbeat: timedelta | None = None


_OUTER = RetryPolicy(initial_interval=timedelta(seconds=1), backoff_coefficient=2, maximum_attempts=5)

QUICK = CallOptions(start_to_close=timedelta(seconds=10), retry=_OUTER)
"""A service's own database and little else."""

BYTES = CallOptions(start_to_close=timedelta(hours=1), retry=_OUTER, heartbeat=timedelta(seconds=5))
"""Reads or moves stored bytes, and heartbeats while it does."""

UNDO = CallOptions(
    start_to_close=timedelta(seconds=10),
    retry=RetryPolicy(
        initial_interval=timedelta(seconds=1),
        backoff_coefficient=2,
        maximum_interval=timedelta(seconds=10),
        maximum_attempts=10,
    ),
)
"""Takes a step back: tried harder than the step, for what is not undone stays wrong."""
