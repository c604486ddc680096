"""Named points at which a worker process kills itself: the windows between an effect and its report, which random
kills miss. They are in the test's own worker processes only (``tests/chaos/hands.py``)."""

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

Moment = Literal["before", "after", "copied", "removing", "removed", "telling"]
"""Before the activity acts; once it has acted and before that is reported; and within it: behind a copy in the storage,
on either side of a removal there, and between a commit and the word of it to the edge."""


@dataclass(frozen=True)
class Plan:
    """What befalls one operation: a SIGKILL of the worker at a moment of an activity, once; and before, an activity
    that fails although it has acted, so that undos run."""

    activity: str
    moment: Moment
    failing: str | None = None

    @property
    def name(self) -> str:
        return f"{self.failing or ''}>{self.activity}:{self.moment}"


TOGETHER_SECONDS = 1.0
"""How long a process stands at a point before it dies: operations that come to theirs meanwhile are killed with it."""


class Plans:
    """A file for each operation, which whoever dies takes away first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)

    def make(self, operation_id: str, plan: Plan) -> None:
        (self._folder / operation_id).write_text(json.dumps(asdict(plan)))

    def of(self, operation_id: str) -> Plan | None:
        for path in (self._folder / operation_id, self._taken(operation_id)):
            try:
                return Plan(**json.loads(path.read_text()))
            except FileNotFoundError:
                continue
        return None

    def was_reached(self, operation_id: str) -> bool:
        return self._taken(operation_id).exists()

    async def die_at(self, moment: Moment) -> None:
        if not activity.in_activity():
            return
        info = activity.info()
        operation_id = info.workflow_id or ""
        plan = self.of(operation_id)
        if plan is None or (plan.activity, plan.moment) != (info.activity_type, moment):
            return
        try:
            (self._folder / operation_id).rename(self._taken(operation_id))
        except FileNotFoundError:  # it befell somebody already
            return
        try:
            await asyncio.sleep(TOGETHER_SECONDS)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)

    def _taken(self, operation_id: str) -> Path:
        return self._folder / f"{operation_id}.taken"


class CrashPoints(Interceptor):
    def __init__(self, plans: Plans) -> None:
        self._plans = plans

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Crashing(next, self._plans)


class _Crashing(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, plans: Plans) -> None:
        super().__init__(next)
        self._plans = plans

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        await self._plans.die_at("before")
        answer = await super().execute_activity(input)
        await self._plans.die_at("after")
        info = activity.info()
        plan = self._plans.of(info.workflow_id or "")
        if plan is not None and plan.failing == info.activity_type:
            raise PermissionDenied("The plan says no.")
        return answer


class CrashingStorage(FileStorage):
    """The same storage, with points behind a copy and around a removal."""

    def __init__(self, storage: FileStorage, plans: Plans) -> None:
        super().__init__(storage._store)  # noqa: SLF001 - it is that storage
        self._plans = plans

    async def copy(self, source: str, target: str) -> None:
        await super().copy(source, target)
        await self._plans.die_at("copied")

    async def remove(self, key: str) -> None:
        await self._plans.die_at("removing")
        await super().remove(key)
        await self._plans.die_at("removed")


class CrashingWakeups:
    """The same wake-ups, with a point before each is told."""

    def __init__(self, change_notifier: ChangeNotifier, plans: Plans) -> None:
        self._change_notifier = change_notifier
        self._plans = plans
        self.subscribe = change_notifier.subscribe
        self.subscribe_to_topic = change_notifier.subscribe_to_topic
        self.notify_topics = change_notifier.notify_topics

    async def notify(self, name: str) -> None:
        await self._plans.die_at("telling")
        await self._change_notifier.notify(name)
