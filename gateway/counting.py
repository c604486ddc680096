"""What counts calls into the ledger of the execution that makes them; put in place in development only."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import httpx
from aiocache.plugins import BasePlugin
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import AbstractConnection
from temporalio.client import (
    CancelWorkflowInput,
    DescribeWorkflowInput,
    FetchWorkflowHistoryEventsInput,
    Interceptor,
    OutboundInterceptor,
    StartWorkflowInput,
    StartWorkflowUpdateInput,
    WorkflowHandle,
    WorkflowHistoryEventAsyncIterator,
    WorkflowUpdateHandle,
)

from contracts.operations import kind_of
from resolvers.ledger import counted, ledger


class CountedServices(httpx.AsyncBaseTransport):
    def __init__(self, carrier: httpx.AsyncBaseTransport) -> None:
        self._carrier = carrier

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        with counted("services"):
            return await self._carrier.handle_async_request(request)

    async def aclose(self) -> None:
        await self._carrier.aclose()


class CountedTemporal(Interceptor):
    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _Calls(next)


class _Calls(OutboundInterceptor):
    """Long-polls are no calls of an execution, but say which operation it follows."""

    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
        _note(input.id)
        with counted("temporal"):
            return await super().start_workflow(input)

    async def describe_workflow(self, input: DescribeWorkflowInput) -> Any:
        _note(input.id)
        with counted("temporal"):
            return await super().describe_workflow(input)

    async def cancel_workflow(self, input: CancelWorkflowInput) -> None:
        _note(input.id)
        with counted("temporal"):
            await super().cancel_workflow(input)

    async def start_workflow_update(self, input: StartWorkflowUpdateInput) -> WorkflowUpdateHandle[Any]:
        _note(input.id)
        with counted("temporal"):
            return await super().start_workflow_update(input)

    def fetch_workflow_history_events(
        self, input: FetchWorkflowHistoryEventsInput
    ) -> WorkflowHistoryEventAsyncIterator:
        _note(input.id)
        return super().fetch_workflow_history_events(input)


class CountedRedis(BlockingConnectionPool):
    """A command, or a pipeline of them, is a connection taken and given back."""

    async def get_connection(self, command_name: str | None = None, *keys: Any, **options: Any) -> AbstractConnection:
        began = time.perf_counter()
        taking = super().get_connection(command_name, *keys, **options)  # type: ignore[no-untyped-call]
        connection: AbstractConnection = await taking
        connection.taken_at = began  # type: ignore[attr-defined]
        return connection

    async def release(self, connection: AbstractConnection) -> None:
        await super().release(connection)
        open_one = ledger()
        if open_one is not None:
            open_one.add("redis", time.perf_counter() - getattr(connection, "taken_at", time.perf_counter()))


class CountedCopies(BasePlugin):  # type: ignore[misc]  # aiocache has no types
    """Which keys were in the cache; stamps are no copies."""

    async def post_multi_get(self, _cache: object, keys: Sequence[str], *, ret: Sequence[object], **_: object) -> None:
        open_one = ledger()
        if open_one is not None:
            found = [value for key, value in zip(keys, ret, strict=True) if not key.startswith("changed:")]
            open_one.hits += sum(value is not None for value in found)
            open_one.misses += sum(value is None for value in found)


def _note(operation_id: str) -> None:
    open_one = ledger()
    if open_one is not None and kind_of(operation_id) is not None:
        open_one.note(operation_id)
