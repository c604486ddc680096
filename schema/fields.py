"""Decorators that bind fields of the GraphQL schema to static methods, and the ``Info`` type of these methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import strawberry
from strawberry.types.field import StrawberryField

from resolvers.context import Context

Info: TypeAlias = strawberry.Info[Context, None]


def field(graphql_type: object, description: str | None = None) -> Callable[[object], StrawberryField]:
    """Return a decorator that makes a static method the resolver of a field.

    The method may return any object whose attributes have the names of the GraphQL type's fields, for example a
    contract.

    Args:
        graphql_type: the Strawberry type of the field.
        description: the description of the field in the schema.
    """
    return _bind(graphql_type, description, is_subscription=False)


def subscription(graphql_type: object, description: str | None = None) -> Callable[[object], StrawberryField]:
    """Return a decorator that makes a static asynchronous generator the source of a subscription field."""
    return _bind(graphql_type, description, is_subscription=True)


def _bind(
    graphql_type: object, description: str | None, *, is_subscription: bool
) -> Callable[[object], StrawberryField]:
    def bind(resolver: object) -> StrawberryField:
        bound = strawberry.field(
            resolver,  # type: ignore[call-overload] # a static method is a resolver, too
            graphql_type=graphql_type,
            description=description,
            is_subscription=is_subscription,
        )
        assert isinstance(bound, StrawberryField)
        return bound

    return bind
