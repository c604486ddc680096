"""How GraphQL executes a document here: as Strawberry does, and an event of a subscription leaves nothing behind."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, TypeGuard

from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

_AWAITABLE: dict[type, bool] = {}


class Execution(StrawberryGraphQLCoreExecutionContext):
    """One execution. graphql-core 3.3.2 hands each event of a subscription the same memory of which fields are asked
    for, under keys that no other event finds: without this it grows with every event for as long as somebody follows.
    """

    def build_per_event_executor(self, payload: object) -> Execution:
        executor = super().build_per_event_executor(payload)
        assert isinstance(executor, Execution)
        executor._relevant_sub_fields = {}  # noqa: SLF001 - it has no other way in
        return executor


def is_awaitable(value: Any) -> TypeGuard[Awaitable[Any]]:
    """Whether it can be awaited, which GraphQL asks of each value; its type tells, and is asked once."""
    kind = type(value)
    known = _AWAITABLE.get(kind)
    if known is None:
        known = _AWAITABLE[kind] = hasattr(kind, "__await__")
    return known
