"""The whole schema, put together once a process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Iterable, Mapping
from contextlib import aclosing
from inspect import isawaitable
from typing import TYPE_CHECKING, cast

import strawberry
from graphql import DocumentNode, GraphQLError
from graphql import ExecutionResult as GraphQLExecutionResult
from graphql.execution import create_source_event_stream, experimental_execute_incrementally
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.schema import StreamResult
from strawberry.types import ExecutionContext, ExecutionResult
from strawberry.types.execution import PreExecutionError
from strawberry.types.graphql import OperationType

from contracts.errors import DeadlineExceeded
from resolvers.context import Context
from schema.execution.document_cache import DocumentCache
from schema.execution.execution_options import Execution
from schema.execution.execution_request import NO_REQUEST, ExecutionRequest
from schema.execution.incremental_delivery import may_ask_for_parts, uses_incremental_delivery, whole_only
from schema.mutation import Mutation
from schema.query import Query
from schema.scalars import SCALARS
from schema.subscription import Subscription

if TYPE_CHECKING:
    from infrastructure.observability.response_trace import ResponseTraces

EXECUTION_SECONDS = 40.0
"""For a query or mutation: ten more than a client may ask to wait for its operation."""


class Schema(strawberry.Schema):
    """What is asked of it is admitted, or refused, before anything of it is carried out.

    It executes without the machinery by which Strawberry calls extensions, which costs as much as a small query does.
    Without ``introspection`` a document that asks for it is refused; without ``suggestions`` no error names parts of
    the schema that the document does not. ``traces`` records what an execution calls.
    """

    def __init__(
        self,
        query: type,
        mutation: type | None = None,
        subscription: type | None = None,
        *,
        types: Iterable[type] = (),
        introspection: bool = True,
        suggestions: bool = True,
        execution_seconds: float = EXECUTION_SECONDS,
        traces: ResponseTraces | None = None,
    ) -> None:
        super().__init__(
            query,
            mutation,
            subscription,
            types=types,
            config=StrawberryConfig(scalar_map=SCALARS, enable_experimental_incremental_execution=True),
        )
        self.documents = DocumentCache(self._schema, introspection=introspection, suggestions=suggestions)
        self._execution_seconds = execution_seconds
        self._traces = traces

    def uses_incremental_delivery(self, query: str | None, variables: Mapping[str, object] | None) -> bool:
        """Whether the answer would come in parts."""
        document = self.document(query) if may_ask_for_parts(query) else None
        return document is not None and uses_incremental_delivery(document, variables)

    def document(self, query: str | None) -> DocumentNode | None:
        """What it says; None where it cannot be read, which its execution tells."""
        return self.documents.tree(query) if query else None

    async def execute(
        self,
        query: str | None,
        variable_values: dict[str, object] | None = None,
        context_value: object | None = None,
        root_value: object | None = None,
        operation_name: str | None = None,
        allowed_operation_types: Iterable[OperationType] | None = None,
        operation_extensions: dict[str, object] | None = None,
    ) -> ExecutionResult:
        """The result of a query or mutation, its errors translated. One that takes too long is ended, and with it all
        resolvers. Raises MissingQueryError, CannotGetOperationTypeError and InvalidOperationTypeError.
        """
        asked = ExecutionRequest(self, query, variable_values, operation_name, context_value)
        if self._traces is None or not self._traces.is_requested(operation_extensions):
            return await self._executed(asked, root_value, allowed_operation_types)
        with self._traces.recording() as trace:
            result = await self._executed(asked, root_value, allowed_operation_types)
            if isinstance(result, ExecutionResult | PreExecutionError):
                result.extensions = {"trace": trace.summary()}
            return result

    async def _executed(
        self, asked: ExecutionRequest, root_value: object, allowed_operation_types: Iterable[OperationType] | None
    ) -> ExecutionResult:
        if refused := asked.refused(self.documents, allowed_operation_types):
            return refused
        try:
            async with asyncio.timeout(self._execution_seconds) as deadline:
                result = experimental_execute_incrementally(
                    self._schema,
                    asked.tree,
                    root_value,
                    asked.context,
                    asked.variables,
                    asked.operation_name,
                    executor_class=Execution,
                )
                if isawaitable(result):
                    result = await result
        except TimeoutError as error:
            return asked.failed(DeadlineExceeded() if deadline.expired() else error)
        except Exception as error:  # noqa: BLE001 - the client is told of it
            return asked.failed(error)
        if not isinstance(result, GraphQLExecutionResult):
            return cast(ExecutionResult, result)  # an answer in parts, which Strawberry passes on as it is, too
        return asked.answered(result)

    async def stream(
        self,
        query: str | None,
        variable_values: dict[str, object] | None = None,
        context_value: object | None = None,
        root_value: object | None = None,
        operation_name: str | None = None,
        operation_extensions: dict[str, object] | None = None,
        allowed_operation_types: Iterable[OperationType] | None = None,
    ) -> StreamResult:
        """The results of an operation, for transports that have no words for an answer in parts."""
        asked = ExecutionRequest(self, query, variable_values, operation_name, context_value)
        try:
            refused = asked.refused(self.documents, allowed_operation_types)
        except NO_REQUEST as error:
            refused = asked.failed(error)
        if refused is None and self.uses_incremental_delivery(query, variable_values):
            refused = PreExecutionError(data=None, errors=asked.translated([whole_only("This connection")]))
        if refused is not None:
            return _only(refused)
        if asked.operation_type is not OperationType.SUBSCRIPTION:
            return _once(
                self.execute(
                    query,
                    variable_values,
                    context_value,
                    root_value,
                    operation_name,
                    operation_extensions=operation_extensions,
                )
            )
        results = self._followed(asked, root_value)
        if self._traces is None or not self._traces.is_requested(operation_extensions):
            return results
        return _with_trace(results, asked.context, self._traces)

    async def _followed(self, asked: ExecutionRequest, root_value: object) -> StreamResult:
        """Each result of a subscription, with how its states come: ``extensions.delivery { mode intervalMs }``."""
        try:
            executor = Execution.build(  # or what is wrong with the variables
                self._schema,
                asked.tree,
                root_value,
                asked.context,
                asked.variables,
                asked.operation_name,
            )
            if isinstance(executor, list):
                yield PreExecutionError(data=None, errors=asked.translated(executor))
                return
            source = create_source_event_stream(executor)
            if isawaitable(source):
                source = await source
            if isinstance(source, GraphQLExecutionResult):
                yield PreExecutionError(data=None, errors=asked.translated(source.errors or []))
                return
            async with aclosing(cast(AsyncGenerator[object], source)) as events:
                async for event in events:
                    result = executor.build_per_event_executor(event).execute_operation(serially=False)
                    if isawaitable(result):
                        result = await result
                    told = asked.answered(cast(GraphQLExecutionResult, result))
                    told.extensions = _delivery(asked.context)
                    yield told
        except Exception as error:  # noqa: BLE001 - the client is told of it
            yield ExecutionResult(data=None, errors=asked.failed(error).errors)

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        """Nothing: Strawberry would log each error whole, even answers to clients. ``schema.errors`` logs trouble."""


async def _with_trace(results: StreamResult, context: object, traces: ResponseTraces) -> StreamResult:
    """The results of a subscription, the first of them with what it took."""
    async with aclosing(cast(AsyncGenerator[ExecutionResult], results)) as stream:
        with traces.recording() as trace:
            first = await anext(stream, None)
            if first is not None:
                latest = context.following.latest if isinstance(context, Context) else None
                if latest is not None:
                    traces.note_operation(latest.id)
                first.extensions = {**(first.extensions or {}), "trace": trace.summary()}
        if first is not None:
            yield first
            async for result in stream:
                yield result


def build_schema(
    *, introspection: bool = True, suggestions: bool = True, traces: ResponseTraces | None = None
) -> Schema:
    return Schema(Query, Mutation, Subscription, introspection=introspection, suggestions=suggestions, traces=traces)


def _delivery(context: object) -> dict[str, object] | None:
    if not isinstance(context, Context) or context.delivery is None:
        return None
    return {"delivery": {"mode": context.delivery.mode.value, "intervalMs": context.delivery.interval_ms}}


async def _only(result: PreExecutionError) -> StreamResult:
    yield result


async def _once(result: Awaitable[ExecutionResult]) -> StreamResult:
    yield await result
