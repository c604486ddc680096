"""The whole schema, put together once a process."""

from __future__ import annotations

from collections.abc import Iterable

import strawberry
from graphql import GraphQLError
from strawberry.extensions import DisableIntrospection
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.schema import StreamResult
from strawberry.types import ExecutionContext
from strawberry.types.execution import PreExecutionError
from strawberry.types.graphql import OperationType

from schema.extensions import KnownDocuments, OwnContext, ToldDelivery, TranslatedErrors, ValidDocuments
from schema.files import File, FileProcessing, FileUpload
from schema.mutation import Mutation
from schema.onboarding import UserOnboarding, Workspace
from schema.operations import Login, TenantSwitch
from schema.parts import asks_for_parts, whole_only
from schema.query import Query
from schema.scalars import SCALARS
from schema.subscription import Subscription


class Schema(strawberry.Schema):
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
        if asks_for_parts(query, variable_values):
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


def build_schema(*, introspection: bool = True) -> Schema:
    """The schema; without ``introspection`` a document that asks for it is refused."""
    hidden = [] if introspection else [DisableIntrospection]
    return Schema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        types=[Login, TenantSwitch, FileUpload, FileProcessing, UserOnboarding, File, Workspace],
        extensions=[TranslatedErrors, OwnContext, ToldDelivery, KnownDocuments, ValidDocuments, *hidden],
        config=StrawberryConfig(scalar_map=SCALARS, enable_experimental_incremental_execution=True),
    )


async def _only(result: PreExecutionError) -> StreamResult:
    yield result
