"""Run one experiment in a process, which sends its results to the parent process through a pipe."""

from __future__ import annotations

from multiprocessing.connection import Connection

from tools.chaos.long_run import EXPERIMENTS


class PipeReport:
    """A Report that sends each result through the pipe."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def add_line(self, line: str) -> None:
        self._pipe.send(("line", line))

    def add_faults(self, faults: list[str]) -> None:
        for fault in faults:
            self._pipe.send(("fault", fault))

    def set_table(self, text: str) -> None:
        self._pipe.send(("table", text))


def run_experiment(part: str, seed: int, seconds: float, pipe: Connection) -> None:
    """Run the experiment; an exception is reported as a fault and raised again."""
    report = PipeReport(pipe)
    try:
        EXPERIMENTS[part](report, seed, seconds)
    except BaseException as error:
        report.add_faults([f"the experiment failed: {error!r}"])
        raise
