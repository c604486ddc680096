"""Workflows that stay with an older build call the activities of this one: each call of theirs is still understood."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

import pytest
from pydantic import ValidationError
from temporalio.api.history.v1 import ActivityTaskScheduledEventAttributes
from temporalio.contrib.pydantic import pydantic_data_converter

from activities.auth.activities import Auth
from activities.files.activities import Files
from activities.notifications.activities import Notifications
from activities.operations.activities import Operations
from activities.tenants.activities import Tenants
from activities.users.activities import Users
from activities.workspaces.activities import Workspaces
from contracts.base import Contract
from tests.histories.recorded import Recording, recordings
from worker.registry import activities_of

RELEASES = sorted({recording.release for recording in recordings()})
SERVED: dict[tuple[str, str], Callable[..., object]] = {
    (domain.__name__.lower(), activity.__name__): activity
    for domain in (Auth, Users, Tenants, Files, Workspaces, Notifications, Operations)
    for activity in activities_of(object.__new__(domain))
}
"""By task queue and name, as workflows call them."""


class Stricter(Contract):
    """What an activity must not come to ask for."""

    reason: str


def calls_in(recording: Recording) -> list[ActivityTaskScheduledEventAttributes]:
    return [
        event.activity_task_scheduled_event_attributes
        for event in recording.history().events
        if event.HasField("activity_task_scheduled_event_attributes")
    ]


async def understood(call: ActivityTaskScheduledEventAttributes, activity: Callable[..., object]) -> list[Any]:
    """Its arguments as the activity would get them. Raises ValidationError."""
    hints = get_type_hints(activity)
    parameters = [hints[name] for name in inspect.signature(activity).parameters]
    return await pydantic_data_converter.decode(call.input.payloads, parameters)


@pytest.mark.parametrize("release", RELEASES)
async def test_each_call_of_an_older_workflow_is_served_and_understood(release: str) -> None:
    called = {
        (call.task_queue.name, call.activity_type.name): call
        for recording in recordings()
        if recording.release == release
        for call in calls_in(recording)
    }
    assert called.keys() <= SERVED.keys()
    assert len(called) > 20
    for name, call in called.items():
        assert len(await understood(call, SERVED[name])) == 1, name


async def test_an_activity_that_asks_for_more_is_found_out() -> None:
    async def create_session(new: Stricter) -> None: ...

    [call, *_] = [
        call
        for recording in recordings()
        for call in calls_in(recording)
        if call.activity_type.name == "create_session"
    ]
    with pytest.raises(ValidationError):
        await understood(call, create_session)
