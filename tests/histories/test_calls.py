"""Activities of this release accept all calls of workflows of earlier releases, which may run on an older build."""

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
"""Activities by task queue and name, as workflows call them."""


class StricterArgument(Contract):
    """An incompatible argument: it has a required field that older calls do not have."""

    reason: str


def calls_in(recording: Recording) -> list[ActivityTaskScheduledEventAttributes]:
    return [
        event.activity_task_scheduled_event_attributes
        for event in recording.history().events
        if event.HasField("activity_task_scheduled_event_attributes")
    ]


async def decode_arguments(call: ActivityTaskScheduledEventAttributes, activity: Callable[..., object]) -> list[Any]:
    """Return the arguments of the call as the activity receives them. Raises ValidationError."""
    hints = get_type_hints(activity)
    parameters = [hints[name] for name in inspect.signature(activity).parameters]
    return await pydantic_data_converter.decode(call.input.payloads, parameters)


@pytest.mark.parametrize("release", RELEASES)
async def test_activities_accept_all_calls_of_released_workflows(release: str) -> None:
    called = {
        (call.task_queue.name, call.activity_type.name): call
        for recording in recordings()
        if recording.release == release
        for call in calls_in(recording)
    }
    assert called.keys() <= SERVED.keys()
    assert len(called) > 20
    for name, call in called.items():
        assert len(await decode_arguments(call, SERVED[name])) == 1, name


async def test_incompatible_activity_argument_is_detected() -> None:
    async def create_session(new: StricterArgument) -> None: ...

    [call, *_] = [
        call
        for recording in recordings()
        for call in calls_in(recording)
        if call.activity_type.name == "create_session"
    ]
    with pytest.raises(ValidationError):
        await decode_arguments(call, create_session)
