"""Collects the evidence once all is quiet: from Temporal, the tables and the storage, each read directly."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from email import message_from_bytes
from functools import partial
from pathlib import Path

from obstore.store import S3Store
from temporalio.api.common.v1 import Payload
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError

from contracts.compensation_repair import repair_id
from contracts.operations import ATTRIBUTE_TENANTS, MEMO_STATE, OperationState, OperationStatus, kind_of
from tests.s3 import BUCKET
from tests.servers import HOST
from tools.chaos.environment import Ground
from tools.chaos.invariants import the_record_agrees_with_temporal
from tools.chaos.observations import History, Ran, Record, Stored, World

RECORD_SECONDS = 90
"""Within which the record is corrected: a minute after visibility shows what it lacks."""
_AT_ONCE = 10
_CLOSED_AS = {
    WorkflowExecutionStatus.COMPLETED: OperationStatus.COMPLETED,
    WorkflowExecutionStatus.FAILED: OperationStatus.FAILED,
    WorkflowExecutionStatus.CANCELED: OperationStatus.CANCELLED,
    WorkflowExecutionStatus.TERMINATED: OperationStatus.FAILED,
    WorkflowExecutionStatus.TIMED_OUT: OperationStatus.TIMED_OUT,
}


async def gathered(ground: Ground, histories: Iterable[History]) -> World:
    temporal = await ground.temporal()
    histories = tuple(histories)
    ids = {told.operation_id for history in histories for told in history.acknowledged}
    ids |= {row.id async for row in temporal.list_workflows()}
    turns = asyncio.Semaphore(_AT_ONCE)

    async def one(operation_id: str) -> Ran:
        async with turns:
            return await _ran(temporal, operation_id)

    operations = await asyncio.gather(*(one(each) for each in sorted(ids) if kind_of(each) is not None))
    letters = await asyncio.to_thread(lambda: tuple(_letters(ground)))
    is_outside = "storage" in ground.behind
    stored = await _objects_outside(ground) if is_outside else await asyncio.to_thread(_objects, ground.files)
    world = World(histories, tuple(operations), await _tables(ground), stored, letters)
    with suppress(TimeoutError):
        async with asyncio.timeout(RECORD_SECONDS):
            while any(the_record_agrees_with_temporal(world)):
                await asyncio.sleep(1)
                world = replace(world, tables=await _tables(ground))
    return world


async def quiet(ground: Ground, operations: Iterable[str], *, seconds: float = 180) -> None:
    """Wait until all of them have closed, and all repairs."""
    temporal = await ground.temporal()
    async with asyncio.timeout(seconds):
        for operation_id in operations:
            await _until(partial(_closed, temporal, operation_id))
        await _until(partial(_none_runs, temporal))


async def _closed(temporal: Client, operation_id: str) -> bool:
    return (await temporal.get_workflow_handle(operation_id).describe()).close_time is not None


async def _none_runs(temporal: Client) -> bool:
    return not [row async for row in temporal.list_workflows("ExecutionStatus = 'Running'")]


async def _until(asked: Callable[[], Awaitable[bool]]) -> None:
    while not await asked():  # noqa: ASYNC110 - what is waited for is elsewhere
        await asyncio.sleep(0.2)


async def repaired(ground: Ground, operations: Iterable[str], *, seconds: float) -> None:
    """Wait until the reconciler has repaired each of them; TimeoutError where it has not in so many seconds."""
    temporal = await ground.temporal()
    async with asyncio.timeout(seconds):
        await asyncio.gather(*(_repaired(temporal, each) for each in operations))


async def unclean(ground: Ground, operations: Iterable[str]) -> list[str]:
    """Those that ended without a last word of theirs that all is done or undone."""
    temporal = await ground.temporal()
    found = []
    for operation_id in operations:
        description = await temporal.get_workflow_handle(operation_id).describe()
        state = OperationState.model_validate(await description.memo_value(MEMO_STATE, type_hint=dict[str, object]))
        is_fine = state.failure is not None and state.failure.compensated
        if description.status is not WorkflowExecutionStatus.COMPLETED and not is_fine:
            found.append(operation_id)
    return found


async def repair_deadline_seconds(ground: Ground, operation_id: str) -> float:
    """From the end of the operation to the end of its repair, by Temporal's own clock."""
    temporal = await ground.temporal()
    operation = await temporal.get_workflow_handle(operation_id).describe()
    repair = await temporal.get_workflow_handle(repair_id(operation_id, operation.run_id)).describe()
    ended, undone = operation.close_time, repair.close_time
    assert ended is not None
    assert undone is not None
    return (undone - ended).total_seconds()


async def _repaired(temporal: Client, operation_id: str) -> None:
    while True:
        try:
            operation = await temporal.get_workflow_handle(operation_id).describe()
            await temporal.get_workflow_handle(repair_id(operation_id, operation.run_id)).result()
        except RPCError:
            await asyncio.sleep(0.3)
        else:
            return


async def _ran(temporal: Client, operation_id: str) -> Ran:
    kind = kind_of(operation_id)
    assert kind is not None
    handle = temporal.get_workflow_handle(operation_id)
    description = await handle.describe()
    events = handle.fetch_history_events(page_size=1)
    await events.fetch_next_page()
    (first, *_) = events.current_page or ()
    payloads: list[Payload] = list(first.workflow_execution_started_event_attributes.input.payloads)
    (command,) = await temporal.data_converter.decode(payloads)
    state = OperationState.model_validate(await description.memo_value(MEMO_STATE, type_hint=dict[str, object]))
    tenants = description.search_attributes.get(ATTRIBUTE_TENANTS, ())
    closed_as = None if description.status is None else _CLOSED_AS.get(description.status)
    return Ran(operation_id, kind, closed_as, command, state, tuple(str(each) for each in tenants))


async def _tables(ground: Ground) -> dict[str, list[Record]]:
    database = await ground.database()
    names = await database.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    tables = {name: [dict(row) for row in await database.fetch(f'SELECT * FROM "{name}"')] for (name,) in names}
    await database.close()
    return tables


def _objects(folder: Path) -> dict[str, Stored]:
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and "#" not in path.name:  # part of a writing that died: no listing shows it
            content = path.read_bytes()
            key = path.relative_to(folder).as_posix()
            found[key] = Stored(len(content), hashlib.sha256(content).hexdigest())
    return found


async def _objects_outside(ground: Ground) -> dict[str, Stored]:
    """Past the proxy."""
    store = S3Store(
        BUCKET,
        endpoint=f"http://{HOST}:{ground.behind['storage']}",
        region="us-east-1",
        access_key_id="any",
        secret_access_key="any",
        client_options={"allow_http": True},
        virtual_hosted_style_request=False,
    )
    found = {}
    async for some in store.list():
        for each in some:
            content = bytes(await (await store.get_async(each["path"])).bytes_async())
            found[each["path"]] = Stored(len(content), hashlib.sha256(content).hexdigest())
    return found


def _letters(ground: Ground) -> Iterable[str]:
    for letter in ground.mail.emails if ground.mail else ():
        yield str(letter["Message-ID"]).strip()
    for path in (ground.folder / "mail").glob("*.eml"):
        yield str(message_from_bytes(path.read_bytes())["Message-ID"]).strip()
