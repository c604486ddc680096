"""What happens around each execution: documents parsed and checked once, a context of its own, errors translated."""

from __future__ import annotations

from collections.abc import Iterator

from graphql import GraphQLError, GraphQLSyntaxError
from strawberry.extensions import ParserCache, SchemaExtension, ValidationCache
from strawberry.types import StreamExecutionResult
from strawberry.types.execution import ExecutionContext

from schema.errors import translate

DOCUMENTS = 1_000
"""How many documents are kept parsed and checked, those used longest ago dropped first."""


class KnownDocuments(ParserCache):
    """Strawberry's cache lets what parsing raises out of a stream, whose client would see it end without a word."""

    def __init__(self) -> None:
        super().__init__(maxsize=DOCUMENTS)

    def on_parse(self) -> Iterator[None]:
        try:
            yield from super().on_parse()
        except (GraphQLSyntaxError, RecursionError):
            yield  # the schema parses it again, and reports it


class ValidDocuments(ValidationCache):
    """The same for checking; a document nested too deeply to be checked is refused."""

    def __init__(self) -> None:
        super().__init__(maxsize=DOCUMENTS)

    def on_validate(self) -> Iterator[None]:
        try:
            yield from super().on_validate()
        except RecursionError as error:
            self.execution_context.pre_execution_errors = [GraphQLError("", original_error=error)]
            yield


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
