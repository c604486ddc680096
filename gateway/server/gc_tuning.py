"""Tuning of Python's cyclic garbage collection for a process with thousands of open sockets.

With 10,000 sockets a full collection takes more than a second. Each event that the gateway sends creates new objects
for each waiting socket, so that Python's default thresholds would start a collection every few events, in the middle
of sending one.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

_NEW_OBJECTS_THRESHOLD = 50_000
"""Growth of the number of objects that starts a collection of the youngest generation."""
_OLDER_GENERATION_THRESHOLDS = (10, 20)
"""Collections of a generation after which the next older generation is collected, too."""
_MIN_CLOSED_CONNECTIONS = 1_000
_BUSY_SECONDS = 0.1
"""Processor time since the last call above which the process counts as busy."""
_MAX_POSTPONEMENTS = 60


def tune_gc() -> None:
    """Collect garbage once, exempt all present objects from later collections, and raise the thresholds.

    Call it once the application has been started.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS_THRESHOLD, *_OLDER_GENERATION_THRESHOLDS)


class CycleCollector:
    """Collects the reference cycles of closed connections, which the raised thresholds leave in memory for long.

    A collection is due when more connections have been closed than are open. It is postponed while the process is
    busy, for instance while thousands of clients reconnect, but not more than 60 times.

    Args:
        thread_time: returns the processor time of this thread in seconds.
    """

    def __init__(self, thread_time: Callable[[], float] = time.thread_time) -> None:
        self._closed = 0
        self._postponements = 0
        self._thread_time = thread_time
        self._last_thread_time = thread_time()

    def count_closed(self) -> None:
        """Count one closed connection."""
        self._closed += 1

    def collect_if_due(self, open_connections: int) -> None:
        """Collect garbage if that is due and the process is not busy. Call this method twice a second."""
        before, self._last_thread_time = self._last_thread_time, self._thread_time()
        if self._closed <= max(_MIN_CLOSED_CONNECTIONS, open_connections):
            return
        if self._last_thread_time - before > _BUSY_SECONDS and self._postponements < _MAX_POSTPONEMENTS:
            self._postponements += 1
            return
        self._closed = self._postponements = 0
        gc.collect()
