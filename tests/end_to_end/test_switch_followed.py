"""A tenant switch followed over a websocket, with a real Temporal server: each step as it runs and as it is undone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from temporalio.client import Client as Temporal

from activities.auth import models as auth
from activities.users import models as users
from contracts.operations import STEPS, OperationKind
from tests.end_to_end.client import Client, Json, step_of
from tests.end_to_end.scripted import signed_in_client
from tests.workflows.saga_harness import FINAL_ERROR, FaultPlan

NAMES = STEPS[OperationKind.TENANT_SWITCH]


class FirstStepGate:
    """Holds the first step of a switch until the client has received the first state."""

    def __init__(self) -> None:
        self._has_begun = False
        self._is_open = asyncio.Event()

    async def watch(self, activity: str) -> None:
        """Wait before the first step of the followed switch."""
        if self._has_begun and activity == "check_access":
            await self._is_open.wait()

    async def follow_a_switch(self, ada: Client) -> list[Json]:
        """Follow a switch to Globex and return all its states."""
        self._has_begun = True
        operation_id, _ = await ada.start_switch(await ada.tenant_id("Globex"))
        states = []
        async with asyncio.timeout(30), ada.follow(operation_id) as followed:
            async for state in followed:
                states.append(state)
                self._is_open.set()
        return states


async def database_rows() -> list[Any]:
    """Return all users and sessions in the database."""
    return [
        await users.User.all().order_by("id").values("id", "tenant_id"),
        await auth.Session.all().order_by("id").values("id", "tenant_id", "is_active", "ended_at", "token_hash"),
    ]


async def test_subscriber_sees_each_step_running_and_completed_in_order(
    temporal_client: Temporal, temporal_address: str, tmp_path: Path
) -> None:
    gate = FirstStepGate()
    async with signed_in_client(temporal_client, temporal_address, tmp_path, FaultPlan(on_attempt=gate.watch)) as ada:
        states = await gate.follow_a_switch(ada)

    assert states[-1]["status"] == "COMPLETED"
    for name in NAMES:
        statuses = [step_of(state, name)["status"] for state in states]
        assert statuses == sorted(statuses, key=["PENDING", "RUNNING", "COMPLETED"].index)
        assert "RUNNING" in statuses
        assert statuses[-1] == "COMPLETED"
    current_steps = [step for state in states if (step := state["progress"]["currentStep"])]
    assert list(dict.fromkeys(current_steps)) == list(NAMES)


async def test_subscriber_sees_the_failed_step_and_the_compensation_of_completed_ones(
    temporal_client: Temporal, temporal_address: str, tmp_path: Path
) -> None:
    gate = FirstStepGate()
    fault_plan = FaultPlan(after={"replace_session": FINAL_ERROR}, on_attempt=gate.watch)
    async with signed_in_client(temporal_client, temporal_address, tmp_path, fault_plan) as ada:
        before = await database_rows()
        states = await gate.follow_a_switch(ada)
        assert await database_rows() == before
        assert await ada.current_tenant() == "Acme"

    assert "COMPENSATING" in [state["status"] for state in states]
    last = states[-1]
    assert (last["status"], last["error"]["compensated"]) == ("FAILED", True)
    assert [each["status"] for each in last["progress"]["steps"]] == ["COMPENSATED"] * 5 + ["FAILED"]
