"""One GraphQL request: its validation before execution, and the translation of its results and errors for clients."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import strawberry
from graphql import DocumentNode, GraphQLError
from graphql import ExecutionResult as GraphQLExecutionResult
from strawberry.exceptions import MissingQueryError
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types import ExecutionContext, ExecutionResult
from strawberry.types.execution import PreExecutionError
from strawberry.types.graphql import OperationType
from strawberry.utils.operation import get_operation_type

from resolvers.context import Context
from schema.errors import translate
from schema.execution.document_cache import DocumentCache
from schema.execution.incremental_delivery import initial_count_errors, may_use_incremental_delivery

INVALID_REQUEST_ERRORS = (MissingQueryError, CannotGetOperationTypeError, InvalidOperationTypeError)
"""Exceptions of Strawberry for a request without a document or without an executable operation."""


class ExecutionRequest:
    """A document with its variables, operation name and context, from validation to result.

    ``context`` is passed to the resolvers. If it is a ``Context``, its request id is added to each error.
    ``operation_type`` and ``document`` are available after ``validate`` has returned None.
    """

    operation_type: OperationType | None = None
    _document: DocumentNode | None = None

    def __init__(
        self,
        schema: strawberry.Schema,
        query: str | None,
        variables: dict[str, object] | None,
        operation_name: str | None,
        context: object | None,
    ) -> None:
        self._schema = schema
        self._query = query
        self.variables = variables
        self.operation_name = operation_name
        self.context = context

    @property
    def document(self) -> DocumentNode:
        """The parsed document of a validated request."""
        assert self._document is not None
        return self._document

    def validate(self, documents: DocumentCache, allowed: Iterable[OperationType] | None) -> PreExecutionError | None:
        """Parse and validate the document; return its errors, or None if the operation may be executed.

        Args:
            documents: the cache that parses documents and enforces the limits.
            allowed: the operation types that the transport supports; None allows all types.

        Raises:
            MissingQueryError: the request has no document.
            CannotGetOperationTypeError: the document has no operation with the requested name.
            InvalidOperationTypeError: the type of the operation is not allowed.
        """
        if not self._query:
            raise MissingQueryError
        try:
            parsed = documents.check(self._query, self.variables, self.operation_name)
        except GraphQLError as error:
            return PreExecutionError(data=None, errors=self.translate([error]))
        self._document = parsed.tree
        try:
            self.operation_type = get_operation_type(parsed.tree, self.operation_name)
        except RuntimeError as error:
            raise CannotGetOperationTypeError(self.operation_name) from error
        if allowed is not None and self.operation_type not in allowed:
            raise InvalidOperationTypeError(self.operation_type)
        if parsed.errors:
            return PreExecutionError(data=None, errors=self.translate(parsed.errors))
        if may_use_incremental_delivery(self._query):
            errors = initial_count_errors(parsed.tree, self.variables)
            return PreExecutionError(data=None, errors=self.translate(errors)) if errors else None
        return None

    def to_result(self, result: GraphQLExecutionResult) -> ExecutionResult:
        """Return the result of graphql-core as a Strawberry result with errors for clients."""
        errors = self.translate(result.errors) if result.errors else None
        return ExecutionResult(data=result.data, errors=errors)

    def to_error(self, error: Exception) -> PreExecutionError:
        """Return a result without data for an exception that prevented or ended the execution."""
        raised = error if isinstance(error, GraphQLError) else GraphQLError(_message(error), original_error=error)
        return PreExecutionError(data=None, errors=self.translate([raised]))

    def translate(self, errors: Sequence[GraphQLError]) -> list[GraphQLError]:
        """Return the errors as clients receive them, with code and request id (see ``schema.errors.translate``)."""
        execution = ExecutionContext(
            query=self._query,
            schema=self._schema,
            allowed_operations=(),
            variables=self.variables,
            provided_operation_name=self.operation_name,
            graphql_document=self._document,
        )
        request_id = self.context.request_id if isinstance(self.context, Context) else ""
        return translate(errors, request_id, execution)


def _message(error: Exception) -> str:
    match error:
        case CannotGetOperationTypeError():
            return error.as_http_error_reason()
        case InvalidOperationTypeError(operation_type=kind):
            return f"This request cannot execute a {kind.value}."
        case _:
            return str(error)
