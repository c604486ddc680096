"""``python -m tools.chaos.worker_processes ROLE [COUNT]``: run worker processes that can be killed one by one.

The role ``services`` serves HTTP and is not killed; ``workflows`` runs workflows; ``activities`` runs activities with
crash points. A killed process is replaced by a fork of this one, which has imported all modules, within 0.1 s.
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
from tools.chaos.crash_points import CrashingNotifier, CrashingStorage, CrashPlans, CrashPoints
from worker.__main__ import open_dependencies
from worker.dev.subprocesses import die_with_parent
from worker.http import serve_services, services_app
from worker.registry import Domain, WorkerDependencies, domains_of, routes_of
from worker.settings import WorkerSettings
from worker.stop_signals import stop_on_signals
from worker.workers import running_workers


async def run_worker(role: str, settings: WorkerSettings) -> None:
    """Run the role in this process until SIGTERM."""
    plans = CrashPlans(settings.data_dir / "plans")
    with stop_on_signals() as stop:
        async with open_dependencies(settings) as dependencies:
            if role == "services":
                app = services_app(routes_of(domains_of("all", dependencies)))
                await serve_services(app, host=settings.host, port=settings.worker_port, stop=stop)
                return
            domains, interceptors = _select_domains(role, dependencies, plans)
            async with running_workers(dependencies.temporal, domains, dependencies.change_notifier, interceptors):
                (settings.data_dir / f"{role}.{os.getpid()}.ready").touch()
                await stop.wait()


def _select_domains(
    role: str, dependencies: WorkerDependencies, plans: CrashPlans
) -> tuple[Sequence[Domain], Sequence[Interceptor]]:
    if role == "workflows":
        return [domain for domain in domains_of("all", dependencies) if domain.queue is TaskQueue.OPERATIONS], []
    crashing = replace(
        dependencies,
        storage=CrashingStorage(dependencies.storage, plans),
        change_notifier=CrashingNotifier(dependencies.change_notifier, plans),
    )
    others = [domain for domain in domains_of("all", crashing) if domain.queue is not TaskQueue.OPERATIONS]
    return [replace(domain, routes=(), background_tasks=()) for domain in others], [CrashPoints(plans)]


class ProcessPool:
    """Forks worker processes and replaces killed ones until SIGTERM."""

    def __init__(self, role: str, settings: WorkerSettings) -> None:
        self._role = role
        self._settings = settings
        self._children: set[int] = set()
        self._stopping = False

    def run_worker(self, count: int) -> None:
        load_default_build_id()  # hashes every module, which takes two seconds; the forks inherit the cached result
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
        set_death_signal = die_with_parent()
        child = os.fork()
        if child:
            self._children.add(child)
            return
        if set_death_signal is not None:
            set_death_signal()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        status = 1
        try:
            asyncio.run(run_worker(self._role, self._settings))
            status = 0
        finally:
            os._exit(status)

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        self._stopping = True
        for child in self._children:
            os.kill(child, signal.SIGKILL)  # children are made to be killed


def ready_processes(folder: Path, role: str) -> list[int]:
    """Return the ids of the processes of this role that accept work."""
    return [int(path.name.split(".")[1]) for path in folder.glob(f"{role}.*.ready")]


if __name__ == "__main__":
    configure_logs()
    ProcessPool(sys.argv[1], WorkerSettings()).run_worker(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
