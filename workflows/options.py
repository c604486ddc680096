"""The named timeouts and retries of every activity call, in one place.

A step is tried again by its workflow, as often as the class of its trouble says, so that each try and its reason stand
in the memo for clients to see. An activity's interceptor names the class (``worker/interceptors.py``). What answers is
final.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from temporalio.common import RetryPolicy


@dataclass(frozen=True)
class RetrySchedule:
    """How often a class of trouble is tried in all, and the seconds before the second try; doubled each time."""

    name: str
    tries: int
    first_seconds: float

    def delay(self, attempt: int) -> timedelta:
        """What to wait after the given try (1 is the first)."""
        return timedelta(seconds=self.first_seconds * 2 ** (attempt - 1))


NETWORK = RetrySchedule("NETWORK", tries=3, first_seconds=1)
TIMEOUT = RetrySchedule("TIMEOUT", tries=2, first_seconds=5)
EXTERNAL = RetrySchedule("EXTERNAL", tries=5, first_seconds=2)


TROUBLE = {retry.name: retry for retry in (NETWORK, TIMEOUT, EXTERNAL)}
"""By the type that the interceptor gives to an activity's error."""


@dataclass(frozen=True)
class ActivityOptions:
    """``start_to_close``: one try's deadline. ``heartbeat``: how long a try may be silent before it is taken for dead.
    ``retry``: what Temporal itself tries again."""

    start_to_close: timedelta
    retry: RetryPolicy = field(default_factory=lambda: RetryPolicy(maximum_attempts=1))
    heartbeat: timedelta | None = None


DATABASE = ActivityOptions(start_to_close=timedelta(seconds=10))
"""A service's own database and little else."""

TRANSFER = ActivityOptions(
    start_to_close=timedelta(hours=1),
    heartbeat=timedelta(seconds=5),
    retry=RetryPolicy(initial_interval=timedelta(seconds=1), backoff_coefficient=2, maximum_attempts=5),
)
"""Reads or moves stored bytes and heartbeats while it does. Temporal tries it again, for only so does the next try
begin at the last heartbeat."""

EMAIL = ActivityOptions(start_to_close=timedelta(seconds=30))
"""Hands a letter to a mail server. Its trouble is EXTERNAL: five tries in half a minute, and a letter is no reason to
fail anything."""

COMPENSATION = ActivityOptions(
    start_to_close=timedelta(seconds=10),
    retry=RetryPolicy(
        initial_interval=timedelta(seconds=1),
        backoff_coefficient=2,
        maximum_interval=timedelta(seconds=10),
        maximum_attempts=10,
    ),
)
"""Takes a step back: tried harder than the step, for what is not undone stays wrong."""
