"""Format the table of results, and write it into docs/benchmarks.md."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tools.benchmarks.figures import Figure

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "benchmarks.md"
BEGIN, END = "<!-- figures: written by `make bench` -->", "<!-- end of figures -->"


def table(figures: Sequence[Figure]) -> str:
    marks = {True: "yes", False: "**no**", None: ""}
    rows = ["| what | to reach | measured | reached | |", "|---|---|---|---|---|"]
    rows += [
        f"| {each.what} | {each.target} | {each.measured} | {marks[each.ok]} | {each.detail} |" for each in figures
    ]
    return "\n".join(rows)


def machine() -> str:
    """One sentence on what it ran on."""
    model = platform.machine()
    memory = ""
    if Path("/proc/cpuinfo").exists():
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        model = found[1] if found else model
        total = re.search(r"^MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
        memory = f", {int(total[1]) / 2**20:.0f} GiB of memory" if total else ""
    packages = ", ".join(f"{name} {version(name)}" for name in ("temporalio", "strawberry-graphql", "hypercorn"))
    return (
        f"{os.cpu_count()} processors ({model}){memory}; {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, {packages}; load before the run {os.getloadavg()[0]:.2f}"
    )


def write(figures: Sequence[Figure], *, on: str, seconds: float) -> None:
    """Put the table between the marks of the document; the rest of it is written by hand."""
    is_whole = (
        f"{BEGIN}\n\nMeasured on {datetime.now(UTC):%Y-%m-%d}, in one run of {seconds / 60:.0f} minutes, on {on}.\n\n"
        f"{table(figures)}\n\n{END}"
    )
    text = DOCUMENT.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{is_whole}{after}")
