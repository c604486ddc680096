"""Work on bytes that cannot say how far it is: heard of each second, and finished although its step is cancelled."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from activities.files.file_analysis import with_heartbeats
from contracts.operations import StepHeartbeat
from tests.activities.files.file_fixtures import ignore_progress


async def test_heartbeats_are_sent_every_second() -> None:
    heard: list[StepHeartbeat] = []
    loop = asyncio.get_running_loop()
    moments: list[float] = [loop.time()]

    def hear(heartbeat: StepHeartbeat) -> None:
        heard.append(heartbeat)
        moments.append(loop.time())

    await with_heartbeats(asyncio.sleep(2.5), hear, StepHeartbeat(fraction=0.4))

    assert heard == [StepHeartbeat(fraction=0.4)] * 2
    assert all(0.9 < after - before < 1.5 for before, after in pairwise(moments))
    await asyncio.sleep(1.1)
    assert len(heard) == 2, "nothing is heard of it behind its end"


async def test_cancelled_step_ends_after_its_work() -> None:
    may_end, has_ended = asyncio.Event(), False

    async def work() -> None:
        nonlocal has_ended
        await may_end.wait()
        has_ended = True

    step = asyncio.create_task(with_heartbeats(work(), ignore_progress, StepHeartbeat()))
    await asyncio.sleep(0.01)
    step.cancel()
    await asyncio.wait((step,), timeout=0.1)
    assert not step.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await step
    assert has_ended
