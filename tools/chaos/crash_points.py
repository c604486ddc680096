"""Crash points: a worker process kills itself before, within or after an activity, for example between its effect and
its response, which random kills miss. Only the worker processes of chaos tests have them (``worker_processes.py``).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from temporalio import activity
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from contracts.errors import PermissionDenied
from infrastructure.change_notifications import ChangeNotifier
from infrastructure.storage import FileStorage

Moment = Literal["before", "after", "copied", "removing", "removed", "notifying"]
"""Before the activity; after its effect but before its response; or within it: after a copy in the storage, before or
after a removal there, or between a commit and its change notification."""


@dataclass(frozen=True)
class CrashPlan:
    """The crash of one operation: SIGKILL of the worker at a moment of an activity, once.

    ``failing`` is an earlier activity that fails after its effect, so that the undos run.
    """

    activity: str
    moment: Moment
    failing: str | None = None

    @property
    def name(self) -> str:
        return f"{self.failing or ''}>{self.activity}:{self.moment}"


CRASH_DELAY_SECONDS = 1.0
"""The time between reaching a crash point and the crash; operations that reach theirs meanwhile crash together."""


class CrashPlans:
    """The plans of all operations, one file each. A process renames the file of a plan before it crashes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)

    def add(self, operation_id: str, plan: CrashPlan) -> None:
        (self._folder / operation_id).write_text(json.dumps(asdict(plan)))

    def find(self, operation_id: str) -> CrashPlan | None:
        for path in (self._folder / operation_id, self._taken(operation_id)):
            try:
                return CrashPlan(**json.loads(path.read_text()))
            except FileNotFoundError:
                continue
        return None

    def was_reached(self, operation_id: str) -> bool:
        return self._taken(operation_id).exists()

    async def crash_at(self, moment: Moment) -> None:
        if not activity.in_activity():
            return
        info = activity.info()
        operation_id = info.workflow_id or ""
        plan = self.find(operation_id)
        if plan is None or (plan.activity, plan.moment) != (info.activity_type, moment):
            return
        try:
            (self._folder / operation_id).rename(self._taken(operation_id))
        except FileNotFoundError:  # another process has crashed at this point
            return
        try:
            await asyncio.sleep(CRASH_DELAY_SECONDS)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)

    def _taken(self, operation_id: str) -> Path:
        return self._folder / f"{operation_id}.taken"


class CrashPoints(Interceptor):
    """Crashes or fails activities as planned."""

    def __init__(self, plans: CrashPlans) -> None:
        self._plans = plans

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Crashing(next, self._plans)


class _Crashing(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, plans: CrashPlans) -> None:
        super().__init__(next)
        self._plans = plans

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        await self._plans.crash_at("before")
        answer = await super().execute_activity(input)
        await self._plans.crash_at("after")
        info = activity.info()
        plan = self._plans.find(info.workflow_id or "")
        if plan is not None and plan.failing == info.activity_type:
            raise PermissionDenied("The crash plan lets this activity fail.")
        return answer


class CrashingStorage(FileStorage):
    """The same storage, with crash points after a copy and around a removal."""

    def __init__(self, storage: FileStorage, plans: CrashPlans) -> None:
        super().__init__(storage._store)  # noqa: SLF001 - shares the store of the wrapped storage
        self._plans = plans

    async def copy(self, source: str, target: str) -> None:
        await super().copy(source, target)
        await self._plans.crash_at("copied")

    async def remove(self, key: str) -> None:
        await self._plans.crash_at("removing")
        await super().remove(key)
        await self._plans.crash_at("removed")


class CrashingNotifier:
    """The same change notifier, with a crash point before each notification."""

    def __init__(self, change_notifier: ChangeNotifier, plans: CrashPlans) -> None:
        self._change_notifier = change_notifier
        self._plans = plans
        self.subscribe = change_notifier.subscribe
        self.subscribe_to_topic = change_notifier.subscribe_to_topic
        self.notify_topics = change_notifier.notify_topics

    async def notify(self, name: str) -> None:
        await self._plans.crash_at("notifying")
        await self._change_notifier.notify(name)
