"""The GraphQL schema of the gateway, and its execution of queries, mutations and subscriptions."""

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
from schema.execution.execution_request import INVALID_REQUEST_ERRORS, ExecutionRequest
from schema.execution.executor import PerEventCacheExecutor
from schema.execution.incremental_delivery import (
    incremental_delivery_error,
    may_use_incremental_delivery,
    uses_incremental_delivery,
)
from schema.mutation import Mutation
from schema.query import Query
from schema.scalars import SCALARS
from schema.subscription import Subscription

if TYPE_CHECKING:
    from infrastructure.observability.response_trace import ResponseTraces

EXECUTION_TIMEOUT_SECONDS = 40.0
"""Deadline of a query or mutation: ten seconds more than the largest ``waitSeconds`` of a mutation."""


class Schema(strawberry.Schema):
    """A Strawberry schema that validates each request against limits before it executes any part of the request.

    The schema does not run Strawberry extensions, whose overhead equals the cost of a small query.

    Args:
        introspection: whether documents may query the schema itself.
        suggestions: whether error messages suggest names of the schema for misspelled names.
        execution_timeout_seconds: deadline of a query or mutation.
        traces: records the upstream calls of an execution for ``extensions.trace``; None disables response traces.
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
        execution_timeout_seconds: float = EXECUTION_TIMEOUT_SECONDS,
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
        self._execution_timeout_seconds = execution_timeout_seconds
        self._traces = traces

    def uses_incremental_delivery(self, query: str | None, variables: Mapping[str, object] | None) -> bool:
        """Return whether the result of the document is delivered in several parts (``@defer``, ``@stream``)."""
        document = self.document(query) if may_use_incremental_delivery(query) else None
        return document is not None and uses_incremental_delivery(document, variables)

    def document(self, query: str | None) -> DocumentNode | None:
        """Return the syntax tree, or None if the document cannot be parsed; its execution then reports the error."""
        return self.documents.parse_or_none(query) if query else None

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
        """Execute a query or mutation and return its result with errors for clients.

        All resolvers are cancelled at the execution deadline; the result is then a TIMEOUT error.

        Raises:
            MissingQueryError: the request has no document.
            CannotGetOperationTypeError: the document has no operation with the requested name.
            InvalidOperationTypeError: the type of the operation is not allowed.
        """
        request = ExecutionRequest(self, query, variable_values, operation_name, context_value)
        if self._traces is None or not self._traces.is_requested(operation_extensions):
            return await self._execute_request(request, root_value, allowed_operation_types)
        with self._traces.recording() as trace:
            result = await self._execute_request(request, root_value, allowed_operation_types)
            if isinstance(result, ExecutionResult | PreExecutionError):
                result.extensions = {"trace": trace.summary()}
            return result

    async def _execute_request(
        self, request: ExecutionRequest, root_value: object, allowed_operation_types: Iterable[OperationType] | None
    ) -> ExecutionResult:
        if invalid := request.validate(self.documents, allowed_operation_types):
            return invalid
        try:
            async with asyncio.timeout(self._execution_timeout_seconds) as deadline:
                result = experimental_execute_incrementally(
                    self._schema,
                    request.document,
                    root_value,
                    request.context,
                    request.variables,
                    request.operation_name,
                    executor_class=PerEventCacheExecutor,
                )
                if isawaitable(result):
                    result = await result
        except TimeoutError as error:
            return request.to_error(DeadlineExceeded() if deadline.expired() else error)
        except Exception as error:  # noqa: BLE001 - the client receives the error
            return request.to_error(error)
        if not isinstance(result, GraphQLExecutionResult):
            return cast(ExecutionResult, result)  # an incremental result, which Strawberry returns unchanged, too
        return request.to_result(result)

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
        """Return the results of any operation as a stream, for transports without incremental delivery."""
        request = ExecutionRequest(self, query, variable_values, operation_name, context_value)
        try:
            invalid = request.validate(self.documents, allowed_operation_types)
        except INVALID_REQUEST_ERRORS as error:
            invalid = request.to_error(error)
        if invalid is None and self.uses_incremental_delivery(query, variable_values):
            errors = request.translate([incremental_delivery_error("This connection")])
            invalid = PreExecutionError(data=None, errors=errors)
        if invalid is not None:
            return _single_result(invalid)
        if request.operation_type is not OperationType.SUBSCRIPTION:
            return _awaited_result(
                self.execute(
                    query,
                    variable_values,
                    context_value,
                    root_value,
                    operation_name,
                    operation_extensions=operation_extensions,
                )
            )
        results = self._subscribe(request, root_value)
        if self._traces is None or not self._traces.is_requested(operation_extensions):
            return results
        return _with_trace(results, request.context, self._traces)

    async def _subscribe(self, request: ExecutionRequest, root_value: object) -> StreamResult:
        """Yield each result of a subscription, with ``extensions.delivery { mode intervalMs }``."""
        try:
            executor = PerEventCacheExecutor.build(  # a list of errors if the variables are not valid
                self._schema,
                request.document,
                root_value,
                request.context,
                request.variables,
                request.operation_name,
            )
            if isinstance(executor, list):
                yield PreExecutionError(data=None, errors=request.translate(executor))
                return
            source = create_source_event_stream(executor)
            if isawaitable(source):
                source = await source
            if isinstance(source, GraphQLExecutionResult):
                yield PreExecutionError(data=None, errors=request.translate(source.errors or []))
                return
            async with aclosing(cast(AsyncGenerator[object], source)) as events:
                async for event in events:
                    result = executor.build_per_event_executor(event).execute_operation(serially=False)
                    if isawaitable(result):
                        result = await result
                    translated = request.to_result(cast(GraphQLExecutionResult, result))
                    translated.extensions = _delivery(request.context)
                    yield translated
        except Exception as error:  # noqa: BLE001 - the client receives the error
            yield ExecutionResult(data=None, errors=request.to_error(error).errors)

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        """Log nothing: Strawberry would log expected errors, too. ``schema.errors`` logs unexpected errors."""


async def _with_trace(results: StreamResult, context: object, traces: ResponseTraces) -> StreamResult:
    """Yield the results of a subscription, and add the response trace to the first result."""
    async with aclosing(cast(AsyncGenerator[ExecutionResult], results)) as stream:
        with traces.recording() as trace:
            first = await anext(stream, None)
            if first is not None:
                latest = context.subscription.latest if isinstance(context, Context) else None
                if latest is not None:
                    traces.set_operation(latest.id)
                first.extensions = {**(first.extensions or {}), "trace": trace.summary()}
        if first is not None:
            yield first
            async for result in stream:
                yield result


def build_schema(
    *, introspection: bool = True, suggestions: bool = True, traces: ResponseTraces | None = None
) -> Schema:
    """Return the schema with all query, mutation and subscription fields (arguments as for ``Schema``)."""
    return Schema(Query, Mutation, Subscription, introspection=introspection, suggestions=suggestions, traces=traces)


def _delivery(context: object) -> dict[str, object] | None:
    if not isinstance(context, Context) or context.delivery is None:
        return None
    return {"delivery": {"mode": context.delivery.mode.value, "intervalMs": context.delivery.interval_ms}}


async def _single_result(result: PreExecutionError) -> StreamResult:
    yield result


async def _awaited_result(result: Awaitable[ExecutionResult]) -> StreamResult:
    yield await result
