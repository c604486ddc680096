"""When Python looks for garbage: rarely, for a look at all that ten thousand sockets are made of takes over a second.

Left alone it looks every few events, and always in the middle of telling one: what sockets wait with is made anew for
each event, and so much that is new makes Python believe that there is much to be found.
"""

from __future__ import annotations

import gc

_NEW = 50_000
"""Objects more than before, at which it looks at the new ones."""
_AGES = (10, 20)
"""How often it looks at an age before it looks at the next one, too."""
_FEW = 1_000


def look_rarely() -> None:
    """From now on, and never at what there is now: it stays. For the one who runs the process, once all is started."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW, *_AGES)


class Leftovers:
    """What was closed leaves cycles behind, which nobody may find for long. This is their number."""

    def __init__(self) -> None:
        self._closed = 0

    def add(self) -> None:
        self._closed += 1

    def clear(self, still_open: int) -> None:
        """Clear them away where there are as many as there is still in use."""
        if self._closed > max(_FEW, still_open):
            self._closed = 0
            gc.collect()
