"""The whole schema, put together once a process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import strawberry
from graphql import DocumentNode, GraphQLError
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.schema import StreamResult
from strawberry.types import ExecutionContext, ExecutionResult
from strawberry.types.execution import PreExecutionError
from strawberry.types.graphql import OperationType

from schema.documents import Documents
from schema.errors import translate
from schema.execution import Execution
from schema.extensions import Deadline, KnownDocuments, OwnContext, ToldDelivery, TranslatedErrors
from schema.files import File, FileProcessing, FileUpload
from schema.mutation import Mutation
from schema.onboarding import UserOnboarding, Workspace
from schema.operations import Login, TenantSwitch
from schema.parts import asks_for_parts, may_ask_for_parts, whole_only
from schema.query import Query
from schema.scalars import SCALARS
from schema.subscription import Subscription

EXECUTION_SECONDS = 40.0
"""For a query or mutation: ten more than a client may ask to wait for its operation."""


class Schema(strawberry.Schema):
    """What is asked of it is admitted, or refused, before anything of it is carried out."""

    documents: Documents

    def asks_for_parts(self, query: str | None, variables: Mapping[str, object] | None) -> bool:
        """Whether the answer would come in parts."""
        document = self.document(query) if may_ask_for_parts(query) else None
        return document is not None and asks_for_parts(document, variables)

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
        refused = self._refused(query, variable_values, operation_name)
        return refused or await super().execute(
            query,
            variable_values,
            context_value,
            root_value,
            operation_name,
            allowed_operation_types,
            operation_extensions,
        )

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
        if refused := self._refused(query, variable_values, operation_name):
            return _only(refused)
        if self.asks_for_parts(query, variable_values):
            return _only(PreExecutionError(data=None, errors=[whole_only("This connection")]))
        return await super().stream(
            query,
            variable_values,
            context_value,
            root_value,
            operation_name,
            operation_extensions,
            allowed_operation_types,
        )

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        """Nothing: Strawberry would log each error whole, even answers to clients. ``schema.errors`` logs trouble."""

    def _refused(
        self, query: str | None, variables: Mapping[str, object] | None, operation_name: str | None
    ) -> PreExecutionError | None:
        try:
            if query:
                self.documents.admit(query, variables, operation_name)
        except GraphQLError as error:
            return PreExecutionError(data=None, errors=translate([error], request_id=""))
        return None


def build_schema(
    *, introspection: bool = True, suggestions: bool = True, execution_seconds: float = EXECUTION_SECONDS
) -> Schema:
    """The schema. Without ``introspection`` a document that asks for it is refused; without ``suggestions`` no error
    names parts of the schema that the document does not.
    """
    schema = Schema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        types=[Login, TenantSwitch, FileUpload, FileProcessing, UserOnboarding, File, Workspace],
        extensions=[
            TranslatedErrors,
            OwnContext,
            ToldDelivery,
            lambda: KnownDocuments(schema.documents),
            lambda: Deadline(execution_seconds),
        ],
        execution_context_class=Execution,
        config=StrawberryConfig(scalar_map=SCALARS, enable_experimental_incremental_execution=True),
    )
    graphql_schema = schema._schema  # noqa: SLF001 - Strawberry has no other way to it
    schema.documents = Documents(graphql_schema, introspection=introspection, suggestions=suggestions)
    return schema


async def _only(result: PreExecutionError) -> StreamResult:
    yield result
