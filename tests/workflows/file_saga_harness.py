"""The harness for sagas on files: workers with a real database and a storage folder, and a plan of faults."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.worker import Interceptor, Worker

from activities.files.activities import Files
from activities.files.processing import ProcessingService
from activities.files.uploading import UploadingService
from contracts.base import Contract, utc_now
from contracts.errors import DomainError
from contracts.operations import MEMO_STATE, OperationKind, OperationState, operation_id
from contracts.task_queues import TaskQueue
from infrastructure.storage import FileStorage, open_storage
from infrastructure.temporal.connection import SEARCH_ATTRIBUTES, connect
from tests.activities.files.file_fixtures import FileServices
from tests.databases import create_sqlite_database
from tests.workflows.saga_harness import FaultPlan, terminate
from worker.database import database
from worker.error_translation import ErrorTranslationInterceptor
from worker.registry import activities_of
from worker.sandbox import workflow_runner
from workflows.process_file import ProcessFile
from workflows.upload_file import UploadFile


class SlowStorage(FileStorage):
    """A storage that delays each read, and logs the process id and the offset of each read."""

    def __init__(self, storage: FileStorage, seconds: float, log: Path) -> None:
        self._inner = storage
        self._seconds = seconds
        self._log = log

    async def size(self, key: str) -> int | None:
        return await self._inner.size(key)

    async def read(self, key: str, start: int, length: int) -> bytes:
        with self._log.open("a") as log:
            log.write(f"{os.getpid()} {start}\n")
        await asyncio.sleep(self._seconds)
        return await self._inner.read(key, start, length)


class FileSagaHarness:
    """Workers of the operations on files, on one database and one storage folder."""

    def __init__(self, client: Client, fault_plan: FaultPlan, folder: Path) -> None:
        self.client = client
        self.fault_plan = fault_plan
        self._handles: list[WorkflowHandle[Any, Any]] = []
        self.folder = folder / "objects"
        self.services = FileServices(open_storage(str(self.folder)))

    async def start(
        self, run: Callable[..., Awaitable[Contract]], command: Contract, kind: OperationKind
    ) -> WorkflowHandle[Any, Any]:
        handle = await self.client.start_workflow(
            run,
            command,
            id=operation_id(b"", kind, tenant_id="", user_id="", key=None),
            task_queue=TaskQueue.OPERATIONS,
            memo={MEMO_STATE: OperationState.first(kind, utc_now()).to_memo()},
        )
        self.fault_plan.cancel = handle.cancel
        self._handles.append(handle)
        return handle

    async def terminate_all(self) -> None:
        """Terminate the started operations that still run, so that they do not run in other tests on the server."""
        await terminate(self._handles)

    async def run(
        self, run: Callable[..., Awaitable[Contract]], command: Contract, kind: OperationKind
    ) -> OperationState:
        """Start the operation and return its last state."""
        return await end_of(await self.start(run, command, kind))


async def end_of(handle: WorkflowHandle[Any, Any]) -> OperationState:
    """Wait until the operation has closed, and return its last state."""
    with suppress(WorkflowFailureError):
        await handle.result()
    memo = await (await handle.describe()).memo()
    return OperationState.model_validate(memo[MEMO_STATE])


def files_worker(client: Client, storage: FileStorage, interceptors: Sequence[Interceptor] = ()) -> Worker:
    return Worker(
        client,
        task_queue=TaskQueue.FILES,
        activities=activities_of(Files(UploadingService(storage), ProcessingService(storage))),
        interceptors=[ErrorTranslationInterceptor(), *interceptors],
        max_heartbeat_throttle_interval=timedelta(seconds=0.5),
    )


def operations_worker(client: Client) -> Worker:
    return Worker(
        client,
        task_queue=TaskQueue.OPERATIONS,
        workflows=[UploadFile, ProcessFile],
        workflow_runner=workflow_runner(),
        interceptors=[ErrorTranslationInterceptor()],
        workflow_failure_exception_types=[DomainError],
    )


@asynccontextmanager
async def open_file_saga_harness(client: Client, folder: Path, fault_plan: FaultPlan) -> AsyncIterator[FileSagaHarness]:
    with suppress(Exception):  # the server has them already
        await client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(namespace=client.namespace, search_attributes=SEARCH_ATTRIBUTES)
        )
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(open_database(folder))
        harness = FileSagaHarness(client, fault_plan, folder)
        await stack.enter_async_context(operations_worker(client))
        await stack.enter_async_context(files_worker(client, harness.services.storage, [fault_plan]))
        stack.push_async_callback(harness.terminate_all)
        yield harness


@asynccontextmanager
async def open_database(folder: Path) -> AsyncIterator[None]:
    async with database(await create_sqlite_database(folder)):
        yield


async def main(address: str, folder: Path, seconds: float) -> None:
    """Run a worker of the files service with a slow storage until the process is killed."""
    client = await connect(address=address, namespace=None, keys=None)
    storage = SlowStorage(open_storage(str(folder / "objects")), seconds, folder / "reads")
    async with database(f"sqlite://{folder / 'adx.sqlite3'}"), files_worker(client, storage):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])))
