"""Collect observations after a run, directly from Temporal, the database, the storage and the mail server."""

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
from tools.chaos.environment import ChaosEnvironment
from tools.chaos.invariants import the_record_agrees_with_temporal
from tools.chaos.observations import ClientHistory, ExecutedOperation, Observations, Record, StoredObject

RECORD_TIMEOUT_SECONDS = 90
"""The time within which the record of operations is corrected: a minute after the update of Temporal's visibility."""
_MAX_CONCURRENT_READS = 10
_CLOSED_AS = {
    WorkflowExecutionStatus.COMPLETED: OperationStatus.COMPLETED,
    WorkflowExecutionStatus.FAILED: OperationStatus.FAILED,
    WorkflowExecutionStatus.CANCELED: OperationStatus.CANCELLED,
    WorkflowExecutionStatus.TERMINATED: OperationStatus.FAILED,
    WorkflowExecutionStatus.TIMED_OUT: OperationStatus.TIMED_OUT,
}


async def collect_observations(environment: ChaosEnvironment, histories: Iterable[ClientHistory]) -> Observations:
    """Read the state of all systems; wait until the record of operations agrees with Temporal, for a limited time."""
    temporal = await environment.temporal()
    histories = tuple(histories)
    ids = {each.operation_id for history in histories for each in history.acknowledged}
    ids |= {row.id async for row in temporal.list_workflows()}
    semaphore = asyncio.Semaphore(_MAX_CONCURRENT_READS)

    async def one(operation_id: str) -> ExecutedOperation:
        async with semaphore:
            return await _read_operation(temporal, operation_id)

    operations = await asyncio.gather(*(one(each) for each in sorted(ids) if kind_of(each) is not None))
    email_ids = await asyncio.to_thread(lambda: tuple(_email_message_ids(environment)))
    has_s3 = "storage" in environment.ports
    stored = (
        await _read_s3_objects(environment)
        if has_s3
        else await asyncio.to_thread(_read_folder_objects, environment.files)
    )
    observations = Observations(histories, tuple(operations), await _read_tables(environment), stored, email_ids)
    with suppress(TimeoutError):
        async with asyncio.timeout(RECORD_TIMEOUT_SECONDS):
            while any(the_record_agrees_with_temporal(observations)):
                await asyncio.sleep(1)
                observations = replace(observations, tables=await _read_tables(environment))
    return observations


async def wait_until_idle(environment: ChaosEnvironment, operations: Iterable[str], *, seconds: float = 180) -> None:
    """Wait until the operations and all repairs have closed. Raises TimeoutError."""
    temporal = await environment.temporal()
    async with asyncio.timeout(seconds):
        for operation_id in operations:
            await _wait_until(partial(_is_closed, temporal, operation_id))
        await _wait_until(partial(_no_workflow_runs, temporal))


async def _is_closed(temporal: Client, operation_id: str) -> bool:
    return (await temporal.get_workflow_handle(operation_id).describe()).close_time is not None


async def _no_workflow_runs(temporal: Client) -> bool:
    return not [row async for row in temporal.list_workflows("ExecutionStatus = 'Running'")]


async def _wait_until(is_true: Callable[[], Awaitable[bool]]) -> None:
    while not await is_true():  # noqa: ASYNC110 - the condition is in another process
        await asyncio.sleep(0.2)


async def wait_until_repaired(environment: ChaosEnvironment, operations: Iterable[str], *, seconds: float) -> None:
    """Wait until each operation is repaired. Raises TimeoutError."""
    temporal = await environment.temporal()
    async with asyncio.timeout(seconds):
        await asyncio.gather(*(_wait_for_repair(temporal, each) for each in operations))


async def find_unrepaired(environment: ChaosEnvironment, operations: Iterable[str]) -> list[str]:
    """Return the operations whose last state does not say that all steps are completed or undone."""
    temporal = await environment.temporal()
    found = []
    for operation_id in operations:
        description = await temporal.get_workflow_handle(operation_id).describe()
        state = OperationState.model_validate(await description.memo_value(MEMO_STATE, type_hint=dict[str, object]))
        is_fine = state.failure is not None and state.failure.compensated
        if description.status is not WorkflowExecutionStatus.COMPLETED and not is_fine:
            found.append(operation_id)
    return found


async def repair_duration_seconds(environment: ChaosEnvironment, operation_id: str) -> float:
    """Return the time from the end of the operation to the end of its repair, by the clock of Temporal."""
    temporal = await environment.temporal()
    operation = await temporal.get_workflow_handle(operation_id).describe()
    repair = await temporal.get_workflow_handle(repair_id(operation_id, operation.run_id)).describe()
    ended, undone = operation.close_time, repair.close_time
    assert ended is not None
    assert undone is not None
    return (undone - ended).total_seconds()


async def _wait_for_repair(temporal: Client, operation_id: str) -> None:
    while True:
        try:
            operation = await temporal.get_workflow_handle(operation_id).describe()
            await temporal.get_workflow_handle(repair_id(operation_id, operation.run_id)).result()
        except RPCError:
            await asyncio.sleep(0.3)
        else:
            return


async def _read_operation(temporal: Client, operation_id: str) -> ExecutedOperation:
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
    return ExecutedOperation(operation_id, kind, closed_as, command, state, tuple(str(each) for each in tenants))


async def _read_tables(environment: ChaosEnvironment) -> dict[str, list[Record]]:
    database = await environment.database()
    names = await database.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    tables = {name: [dict(row) for row in await database.fetch(f'SELECT * FROM "{name}"')] for (name,) in names}
    await database.close()
    return tables


def _read_folder_objects(folder: Path) -> dict[str, StoredObject]:
    found = {}
    for path in folder.rglob("*"):
        if (
            path.is_file() and "#" not in path.name
        ):  # a partial file of a killed writer, which the storage does not list
            content = path.read_bytes()
            key = path.relative_to(folder).as_posix()
            found[key] = StoredObject(len(content), hashlib.sha256(content).hexdigest())
    return found


async def _read_s3_objects(environment: ChaosEnvironment) -> dict[str, StoredObject]:
    """Read the bucket without the proxy."""
    store = S3Store(
        BUCKET,
        endpoint=f"http://{HOST}:{environment.ports['storage']}",
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
            found[each["path"]] = StoredObject(len(content), hashlib.sha256(content).hexdigest())
    return found


def _email_message_ids(environment: ChaosEnvironment) -> Iterable[str]:
    for email in environment.mail.emails if environment.mail else ():
        yield str(email["Message-ID"]).strip()
    for path in (environment.folder / "mail").glob("*.eml"):
        yield str(message_from_bytes(path.read_bytes())["Message-ID"]).strip()
