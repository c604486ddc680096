"""``python -m tools.chaos.task_counter MODULE [ARGUMENT...]``: run a module that lists its tasks on the signal SIGUSR1.

The names of the coroutines of all tasks are written to ``MODULE.tasks`` in the data folder, one per line.
"""

from __future__ import annotations

import asyncio
import os
import runpy
import signal
import sys
from pathlib import Path
from types import FrameType


def write_task_names(_signal: int, _frame: FrameType | None) -> None:
    names = sorted(getattr(task.get_coro(), "__qualname__", "unknown") for task in asyncio.all_tasks())
    target = Path(os.environ["DATA_DIR"]) / f"{sys.argv[0]}.tasks"
    draft = target.with_suffix(".draft")
    draft.write_text("\n".join(names))
    draft.rename(target)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, write_task_names)
    module = sys.argv[1]
    sys.argv = [module, *sys.argv[2:]]
    runpy.run_module(module, run_name="__main__", alter_sys=False)
