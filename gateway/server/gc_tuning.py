"""When Python looks for garbage: rarely, for a look at all that ten thousand sockets are made of takes over a second.

Left alone it looks every few events, and always in the middle of telling one: what sockets wait with is made anew for
each event, and so much that is new makes Python believe that there is much to be found.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

_NEW = 50_000
"""Objects more than before, at which it looks at the new ones."""
_AGES = (10, 20)
"""How often it looks at an age before it looks at the next one, too."""
_FEW = 1_000
_BUSY_SECONDS = 0.1
_MOST_PUT_OFF = 60


def tune_gc() -> None:
    """From now on, and never at what there is now: it stays. For the one who runs the process, once all is started."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW, *_AGES)


class CycleCollector:
    """What was closed leaves cycles behind, which nobody may find for long. This is their number.

    ``worked`` tells the seconds that this thread has worked. Where thousands come back whose sockets were cut, to look
    for what those left is put off until that is done, as long as it is not put off for too long.
    """

    def __init__(self, worked: Callable[[], float] = time.thread_time) -> None:
        self._closed = 0
        self._put_off = 0
        self._worked = worked
        self._worked_before = worked()

    def add(self) -> None:
        self._closed += 1

    def clear(self, still_open: int) -> None:
        """Clear them away where there are as many as there is still in use. To be called twice a second."""
        before, self._worked_before = self._worked_before, self._worked()
        if self._closed <= max(_FEW, still_open):
            return
        if self._worked_before - before > _BUSY_SECONDS and self._put_off < _MOST_PUT_OFF:
            self._put_off += 1
            return
        self._closed = self._put_off = 0
        gc.collect()
