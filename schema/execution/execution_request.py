"""One request of the schema: admitted or refused, and its results as clients are told of them."""

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
from schema.execution.incremental_delivery import may_ask_for_parts, wrong_initial_counts

NO_REQUEST = (MissingQueryError, CannotGetOperationTypeError, InvalidOperationTypeError)


class ExecutionRequest:
    """``context`` is what resolvers are given, with the id by which a request's errors are told apart."""

    operation_type: OperationType | None = None
    _tree: DocumentNode | None = None

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
    def tree(self) -> DocumentNode:
        """What is asked, once it is admitted."""
        assert self._tree is not None
        return self._tree

    def refused(self, documents: DocumentCache, allowed: Iterable[OperationType] | None) -> PreExecutionError | None:
        """Why nothing of it is carried out; None where it is admitted. Raises one of ``NO_REQUEST``."""
        if not self._query:
            raise MissingQueryError
        try:
            document = documents.admit(self._query, self.variables, self.operation_name)
        except GraphQLError as error:
            return PreExecutionError(data=None, errors=self.translated([error]))
        self._tree = document.tree
        try:
            self.operation_type = get_operation_type(document.tree, self.operation_name)
        except RuntimeError as error:
            raise CannotGetOperationTypeError(self.operation_name) from error
        if allowed is not None and self.operation_type not in allowed:
            raise InvalidOperationTypeError(self.operation_type)
        if document.errors:
            return PreExecutionError(data=None, errors=self.translated(document.errors))
        if may_ask_for_parts(self._query) and (wrong := wrong_initial_counts(document.tree, self.variables)):
            return PreExecutionError(data=None, errors=self.translated(wrong))
        return None

    def answered(self, result: GraphQLExecutionResult) -> ExecutionResult:
        errors = self.translated(result.errors) if result.errors else None
        return ExecutionResult(data=result.data, errors=errors)

    def failed(self, error: Exception) -> PreExecutionError:
        raised = error if isinstance(error, GraphQLError) else GraphQLError(_in_words(error), original_error=error)
        return PreExecutionError(data=None, errors=self.translated([raised]))

    def translated(self, errors: Sequence[GraphQLError]) -> list[GraphQLError]:
        execution = ExecutionContext(
            query=self._query,
            schema=self._schema,
            allowed_operations=(),
            variables=self.variables,
            provided_operation_name=self.operation_name,
            graphql_document=self._tree,
        )
        request_id = self.context.request_id if isinstance(self.context, Context) else ""
        return translate(errors, request_id, execution)


def _in_words(error: Exception) -> str:
    match error:
        case CannotGetOperationTypeError():
            return error.as_http_error_reason()
        case InvalidOperationTypeError(operation_type=kind):
            return f"A {kind.value} is not carried out here."
        case _:
            return str(error)
