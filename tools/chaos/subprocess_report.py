"""A part of the long run in a process of its own, and what it tells the one that started it."""

from __future__ import annotations

from multiprocessing.connection import Connection

from tools.chaos.long_run import PARTS_OF_THE_RUN


class Told:
    """A part's report to the process that started it."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def say(self, line: str) -> None:
        self._pipe.send(("line", line))

    def found(self, faults: list[str]) -> None:
        for fault in faults:
            self._pipe.send(("fault", fault))

    def tabulate(self, text: str) -> None:
        self._pipe.send(("table", text))


def live(part: str, seed: int, seconds: float, pipe: Connection) -> None:
    """One part, in a process of its own."""
    report = Told(pipe)
    try:
        PARTS_OF_THE_RUN[part](report, seed, seconds)
    except BaseException as error:
        report.found([f"broke off: {error!r}"])
        raise
