"""The baseline of the benchmarks: the same work done by Temporal's client without a gateway."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from temporalio.client import Client
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

from contracts.base import utc_now
from contracts.operations import (
    ATTRIBUTE_KIND,
    MEMO_INPUT_DIGEST,
    MEMO_STATE,
    OperationKind,
    OperationState,
    SwitchedTenants,
    operation_id,
)
from contracts.task_queues import TaskQueue
from contracts.tenants import SwitchTenantCommand
from infrastructure.temporal.codec import KeyRing
from infrastructure.temporal.connection import connect
from infrastructure.temporal.operation_history import TENANTS_ATTRIBUTE, USER_ATTRIBUTE

Json = dict[str, Any]


class BaselineStarts:
    """Starts the same workflow with the same input, memo and search attributes as a ``switchTenant`` does."""

    def __init__(self, config: Json) -> None:
        self._config = config
        self._client: Client | None = None

    async def do(self, command: Json) -> Json:
        """Start ``count`` workflows, ``concurrency`` at a time; return the milliseconds of each, the seconds of all."""
        self._client = client = self._client or await connect_client(self._config)
        left = command["count"]
        milliseconds: list[float] = []

        async def start_some() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                started = time.perf_counter()
                await start_switch(client, self._config)
                milliseconds.append((time.perf_counter() - started) * 1000)

        started = time.perf_counter()
        await asyncio.gather(*(start_some() for _ in range(command["concurrency"])))
        return {"milliseconds": milliseconds, "seconds": time.perf_counter() - started}


class BaselineFollowers:
    """Follows operations with one history long-poll each, and decrypts and parses their states."""

    def __init__(self, config: Json) -> None:
        self._config = config
        self._client: Client | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._records: list[tuple[str, int, int]] = []
        self._received = asyncio.Event()

    async def do(self, command: Json) -> Json:
        """Execute a command; the commands are those of ``SocketLoad``."""
        match command["do"]:
            case "connect":
                self._client = client = self._client or await connect_client(self._config)
                self._tasks = [asyncio.create_task(self._follow(client, each)) for each in command["operations"]]
                await asyncio.sleep(1)  # until the long-polls are open
                return {}
            case "await":
                return await self._await(command["count"], command["seconds"])
            case "take":
                _write_records(command["path"], self._records)
                self._records = []
                return {}
            case "close":
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)
                return {}
        raise ValueError(command["do"])

    async def _follow(self, client: Client, operation: str) -> None:
        async for state in follow_states(client, operation):
            self._records.append((operation, state.revision, time.time_ns()))
            self._received.set()

    async def _await(self, count: int, seconds: float) -> Json:
        try:
            async with asyncio.timeout(seconds):
                while len(self._records) < count:
                    self._received.clear()
                    await self._received.wait()
        except TimeoutError:
            pass
        return {"count": len(self._records)}


async def start_switch(client: Client, config: Json) -> None:
    kind = OperationKind.TENANT_SWITCH
    user, here, there = config["user"], config["tenant"], config["other"]
    switch = SwitchedTenants(from_tenant_id=here, to_tenant_id=there)
    await client.start_workflow(
        "SwitchTenant",
        SwitchTenantCommand(
            user_id=user, from_tenant_id=here, to_tenant_id=there, session_id="ses_" + "0" * 32, token_hash="0" * 64
        ),
        id=operation_id(b"", kind, tenant_id="", user_id="", key=None),
        task_queue=TaskQueue.OPERATIONS,
        memo={
            MEMO_STATE: OperationState.first(kind, utc_now(), started_by=user, switch=switch).to_memo(),
            MEMO_INPUT_DIGEST: "0" * 64,
        },
        search_attributes=TypedSearchAttributes(
            [
                SearchAttributePair(SearchAttributeKey.for_keyword(ATTRIBUTE_KIND), kind.value),
                SearchAttributePair(USER_ATTRIBUTE, user),
                SearchAttributePair(TENANTS_ATTRIBUTE, [here]),
            ]
        ),
    )


async def follow_states(client: Client, operation: str) -> AsyncIterator[OperationState]:
    """Yield the states of the operation as Temporal writes them into the history."""
    events = client.get_workflow_handle(operation).fetch_history_events(wait_new_event=True, skip_archival=True)
    async for event in events:
        started = event.workflow_execution_started_event_attributes.memo
        changed = event.workflow_properties_modified_event_attributes.upserted_memo
        for memo in (started, changed):
            if MEMO_STATE in memo.fields:
                (state,) = await client.data_converter.decode([memo.fields[MEMO_STATE]], [OperationState])
                yield state


async def connect_client(config: Json) -> Client:
    return await connect(address=config["temporal"], namespace=None, keys=KeyRing.parse(config["keys"]))


def _write_records(path: str, records: object) -> None:
    Path(path).write_text(json.dumps(records))
