"""What happens around each execution: an admitted document, a deadline, a context of its own, errors translated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

from graphql import GraphQLError
from strawberry.extensions import SchemaExtension
from strawberry.types import StreamExecutionResult
from strawberry.types.execution import ExecutionContext
from strawberry.types.graphql import OperationType

from contracts.errors import DeadlineExceeded
from schema.documents import Documents
from schema.errors import translate


class KnownDocuments(SchemaExtension):
    """Hands over a document that has been admitted, as it was read and checked then."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._errors: list[GraphQLError] = []

    def on_parse(self) -> Iterator[None]:
        if text := self.execution_context.query:  # else the schema says that there is none
            document = self._documents.read(text)
            self.execution_context.graphql_document = document.tree
            self._errors = list(document.errors)
        yield

    def on_validate(self) -> Iterator[None]:
        self.execution_context.pre_execution_errors = self._errors
        yield


class Deadline(SchemaExtension):
    """Ends what takes too long, and with it all resolvers; a subscription lasts as long as it is followed."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def on_execute(self) -> AsyncIterator[None]:
        if self.execution_context.operation_type is OperationType.SUBSCRIPTION:
            yield
            return
        try:
            async with asyncio.timeout(self._seconds) as deadline:
                yield
        except TimeoutError:
            if not deadline.expired():
                raise
            raise DeadlineExceeded() from None


class OwnContext(SchemaExtension):
    """Gives each execution a context of its own: over a websocket all would share the socket's, which goes stale."""

    def on_operation(self) -> Iterator[None]:
        self.execution_context.context = self.execution_context.context.for_execution()
        yield


class TranslatedErrors(SchemaExtension):
    """Translates the errors of an answer, and of each result of a stream."""

    _streamed = False

    def on_operation(self) -> Iterator[None]:
        yield
        if not self._streamed:
            self._translate(self.execution_context.result)

    def on_stream_result(self, result: StreamExecutionResult) -> Iterator[None]:
        self._streamed = True
        self._translate(result)
        yield

    def _translate(self, result: object) -> None:
        errors = getattr(result, "errors", None)
        if errors:
            execution: ExecutionContext = self.execution_context
            result.errors = translate(errors, execution.context.request_id, execution)  # type: ignore[attr-defined]


class ToldDelivery(SchemaExtension):
    """Says with each result of a stream how its states come: ``extensions.delivery { mode intervalMs }``."""

    def on_stream_result(self, result: StreamExecutionResult) -> Iterator[None]:
        delivery = self.execution_context.context.delivery
        if delivery is not None:
            told = {"mode": delivery.mode.value, "intervalMs": delivery.interval_ms}
            result.extensions = {**(result.extensions or {}), "delivery": told}
        yield
