"""Timeouts and retries of all activity calls, under names.

The workflow retries a failed step itself, so that the memo shows clients each attempt with its reason. The number of
attempts depends on the class of the error, which an activity interceptor sets (``worker/error_translation.py``). A
DomainError is final.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from temporalio.common import RetryPolicy


@dataclass(frozen=True)
class RetrySchedule:
    """The attempts that one class of errors allows, with exponential backoff.

    ``max_attempts`` includes the first attempt. ``first_delay_seconds`` is the delay before the second attempt; each
    further delay is twice as long.
    """

    name: str
    max_attempts: int
    first_delay_seconds: float

    def delay(self, attempt: int) -> timedelta:
        """Return the delay after the given attempt (1 is the first)."""
        return timedelta(seconds=self.first_delay_seconds * 2 ** (attempt - 1))


NETWORK = RetrySchedule("NETWORK", max_attempts=3, first_delay_seconds=1)
TIMEOUT = RetrySchedule("TIMEOUT", max_attempts=2, first_delay_seconds=5)
EXTERNAL = RetrySchedule("EXTERNAL", max_attempts=5, first_delay_seconds=2)


RETRY_BY_ERROR = {schedule.name: schedule for schedule in (NETWORK, TIMEOUT, EXTERNAL)}
"""Retry schedules by the error type that the interceptor sets on an activity's ApplicationError."""


@dataclass(frozen=True)
class ActivityOptions:
    """Options of an activity call.

    ``start_to_close`` limits one attempt, ``heartbeat`` the time between two heartbeats (None: no heartbeats), and
    ``retry`` states which attempts Temporal itself repeats.
    """

    start_to_close: timedelta
    retry: RetryPolicy = field(default_factory=lambda: RetryPolicy(maximum_attempts=1))
    heartbeat: timedelta | None = None


DATABASE = ActivityOptions(start_to_close=timedelta(seconds=10))
"""For activities that use little more than their service's own database."""

TRANSFER = ActivityOptions(
    start_to_close=timedelta(hours=1),
    heartbeat=timedelta(seconds=5),
    retry=RetryPolicy(initial_interval=timedelta(seconds=1), backoff_coefficient=2, maximum_attempts=5),
)
"""For activities that read or copy stored bytes and send heartbeats. Temporal itself retries them, because only then
does the next attempt receive the last heartbeat and continue from there."""

EMAIL = ActivityOptions(start_to_close=timedelta(seconds=30))
"""For activities that send an e-mail through a mail server. Their errors have the class EXTERNAL: five attempts within
half a minute."""

COMPENSATION = ActivityOptions(
    start_to_close=timedelta(seconds=10),
    retry=RetryPolicy(
        initial_interval=timedelta(seconds=1),
        backoff_coefficient=2,
        maximum_interval=timedelta(seconds=10),
        maximum_attempts=10,
    ),
)
"""For undos. They are retried more often than steps, because data that is not undone stays inconsistent."""
