"""How a field of the schema is bound to the function that answers it, and what such a function is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import strawberry
from strawberry.types.field import StrawberryField

from resolvers.context import Context

Info: TypeAlias = strawberry.Info[Context, None]


def field(graphql_type: object, description: str | None = None) -> Callable[[object], StrawberryField]:
    """Answer a field by the static method below. It returns a contract, whose attributes the GraphQL type shows."""
    return _bind(graphql_type, description, is_subscription=False)


def stream(graphql_type: object, description: str | None = None) -> Callable[[object], StrawberryField]:
    """Answer a subscription by the asynchronous generator below."""
    return _bind(graphql_type, description, is_subscription=True)


def _bind(
    graphql_type: object, description: str | None, *, is_subscription: bool
) -> Callable[[object], StrawberryField]:
    def bind(resolver: object) -> StrawberryField:
        bound = strawberry.field(
            resolver,  # type: ignore[call-overload] # a static method is one too
            graphql_type=graphql_type,
            description=description,
            is_subscription=is_subscription,
        )
        assert isinstance(bound, StrawberryField)
        return bound

    return bind
