"""``python -m tools.chaos.worker_processes ROLE [COUNT]``: the worker's parts as processes that are killed one by one.

``services`` answers HTTP and never dies; ``sagas`` runs workflows; ``hands`` runs activities, with crash points. Each
dead process is replaced by a fork of this one, which has imported everything already: that takes a tenth of a second.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType

from temporalio.worker import Interceptor
from temporalio.worker._worker import load_default_build_id

from contracts.task_queues import TaskQueue
from infrastructure.observability.logging import configure_logs
from tools.chaos.crash_points import CrashingStorage, CrashingWakeups, CrashPoints, Plans
from worker.__main__ import open_dependencies
from worker.dev.subprocesses import die_with_parent
from worker.http import serve_services, services_app
from worker.registry import Domain, WorkerDependencies, domains_of, routes_of
from worker.settings import WorkerSettings
from worker.stop_signals import stop_on_signals
from worker.workers import running_workers


async def live(role: str, settings: WorkerSettings) -> None:
    plans = Plans(settings.data_dir / "plans")
    with stop_on_signals() as stop:
        async with open_dependencies(settings) as parts:
            if role == "services":
                app = services_app(routes_of(domains_of("all", parts)))
                await serve_services(app, host=settings.host, port=settings.worker_port, stop=stop)
                return
            domains, interceptors = _share(role, parts, plans)
            async with running_workers(parts.temporal, domains, parts.change_notifier, interceptors):
                (settings.data_dir / f"{role}.{os.getpid()}.ready").touch()
                await stop.wait()


def _share(role: str, parts: WorkerDependencies, plans: Plans) -> tuple[Sequence[Domain], Sequence[Interceptor]]:
    if role == "sagas":
        return [domain for domain in domains_of("all", parts) if domain.queue is TaskQueue.OPERATIONS], []
    crashing = replace(
        parts,
        storage=CrashingStorage(parts.storage, plans),
        change_notifier=CrashingWakeups(parts.change_notifier, plans),
    )
    others = [domain for domain in domains_of("all", crashing) if domain.queue is not TaskQueue.OPERATIONS]
    return [replace(domain, routes=(), chores=()) for domain in others], [CrashPoints(plans)]


class Family:
    """Forks and replaces children until it is asked to stop."""

    def __init__(self, role: str, settings: WorkerSettings) -> None:
        self._role = role
        self._settings = settings
        self._children: set[int] = set()
        self._stopping = False

    def live(self, count: int) -> None:
        load_default_build_id()  # it reads every module, takes two seconds, and is remembered for the forks
        signal.signal(signal.SIGTERM, self._stop)
        for _ in range(count):
            self._fork()
        while self._children:
            child, _ = os.wait()
            self._children.discard(child)
            (self._settings.data_dir / f"{self._role}.{child}.ready").unlink(missing_ok=True)
            if not self._stopping:
                with (self._settings.data_dir / f"{self._role}.deaths").open("a") as deaths:
                    deaths.write(f"{child}\n")
                self._fork()

    def _fork(self) -> None:
        dying = die_with_parent()
        child = os.fork()
        if child:
            self._children.add(child)
            return
        if dying is not None:
            dying()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        status = 1
        try:
            asyncio.run(live(self._role, self._settings))
            status = 0
        finally:
            os._exit(status)

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        self._stopping = True
        for child in self._children:
            os.kill(child, signal.SIGKILL)  # they are used to it


def ready(folder: Path, role: str) -> list[int]:
    """The processes of this role that take work."""
    return [int(path.name.split(".")[1]) for path in folder.glob(f"{role}.*.ready")]


if __name__ == "__main__":
    configure_logs()
    Family(sys.argv[1], WorkerSettings()).live(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
