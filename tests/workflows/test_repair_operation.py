"""A repair takes back, in the same order, what the operation itself would have taken back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter

from activities.operations.activities import effects_in
from workflows.repair_operation import BY_KEY, undo_of

HISTORIES = Path(__file__).parent.parent / "histories"
UNSUCCESSFUL = (
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED,
)
UNDOS = {forward: undo.__name__ for forward, undo in BY_KEY.items()} | {"upload_to_storage": "remove_from_storage"}


def events_of(path: Path) -> Sequence[HistoryEvent]:
    return WorkflowHistory.from_json("recorded", path.read_text()).events


UNDONE = sorted(
    path
    for path in HISTORIES.glob("*/*.json")
    if not path.stem.startswith("repair_operation.") and events_of(path)[-1].event_type in UNSUCCESSFUL
)


async def told(events: Sequence[HistoryEvent]) -> AsyncIterator[HistoryEvent]:
    for event in events:
        yield event


@pytest.mark.parametrize("path", UNDONE, ids=lambda path: f"{path.parent.name}-{path.stem}")
async def test_undoes_what_the_operation_undid_newest_first(path: Path) -> None:
    events = events_of(path)
    called = [event.activity_task_scheduled_event_attributes.activity_type.name for event in events]
    forward = [event for event, name in zip(events, called, strict=True) if name not in UNDOS.values()]
    found = await effects_in(told(forward), pydantic_data_converter)
    undone = [UNDOS[effect.activity] for effect in reversed(found.effects) if undo_of(effect) is not None]
    assert undone == [name for name in called if name in UNDOS.values()]


def test_some_histories_undo_something() -> None:
    assert len(UNDONE) > 10
