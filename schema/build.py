"""The whole schema, put together once a process."""

from __future__ import annotations

import strawberry
from graphql import GraphQLError
from strawberry.schema.config import StrawberryConfig
from strawberry.types import ExecutionContext

from schema.extensions import KnownDocuments, OwnContext, ToldDelivery, TranslatedErrors, ValidDocuments
from schema.files import File, FileProcessing, FileUpload
from schema.mutation import Mutation
from schema.onboarding import UserOnboarding, Workspace
from schema.operations import Login, TenantSwitch
from schema.query import Query
from schema.scalars import SCALARS
from schema.subscription import Subscription


class Schema(strawberry.Schema):
    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        """Nothing: Strawberry would log each error whole, even answers to clients. ``schema.errors`` logs trouble."""


def build_schema() -> Schema:
    return Schema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        types=[Login, TenantSwitch, FileUpload, FileProcessing, UserOnboarding, File, Workspace],
        extensions=[TranslatedErrors, OwnContext, ToldDelivery, KnownDocuments, ValidDocuments],
        config=StrawberryConfig(scalar_map=SCALARS),
    )
