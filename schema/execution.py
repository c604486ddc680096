"""How GraphQL executes a document here: as Strawberry does, and an event of a subscription leaves nothing behind."""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, TypeGuard

from graphql import FieldNode, GraphQLObjectType
from graphql.execution.collect_fields import FieldDetailsList
from graphql.pyutils import Path
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from schema.direct import DIRECT, Direct, Write, written_of

_AWAITABLE: dict[type, bool] = {}
_WRITTEN: dict[int, tuple[FieldNode, Write | None]] = {}
_MOST_WRITTEN = 10_000


class Execution(StrawberryGraphQLCoreExecutionContext):
    """One execution. graphql-core 3.3.2 hands each event of a subscription the same memory of which fields are asked
    for, under keys that no other event finds: without this it grows with every event for as long as somebody follows.
    """

    def build_per_event_executor(self, payload: object) -> Execution:
        executor = super().build_per_event_executor(payload)
        assert isinstance(executor, Execution)
        executor._relevant_sub_fields = {}  # noqa: SLF001 - it has no other way in
        return executor

    def execute_field(
        self,
        parent_type: GraphQLObjectType,
        source: object,
        field_details_list: FieldDetailsList,
        path: Path,
        position_context: Any,
    ) -> Any:
        """As graphql-core's own; but where an attribute has the answer, that is all. What is wrong with one that cannot
        be written is for the other to say.
        """
        node = field_details_list[0].node
        field = parent_type.fields.get(node.name.value)
        direct: Direct | None = field.extensions.get(DIRECT) if field else None
        if direct is not None:
            write = direct.write or (_written_of(direct, node) if len(field_details_list) == 1 else None)
            if write is not None:
                with suppress(Exception):
                    value = getattr(source, direct.attribute)
                    return None if value is None and direct.may_be_null else write(value)
        return super().execute_field(parent_type, source, field_details_list, path, position_context)


def _written_of(direct: Direct, node: FieldNode) -> Write | None:
    """Found out once for each place in a document, for the documents that are in use."""
    known = _WRITTEN.get(id(node))
    if known is None or known[0] is not node:
        while len(_WRITTEN) >= _MOST_WRITTEN:
            del _WRITTEN[next(iter(_WRITTEN))]
        assert node.selection_set is not None
        known = _WRITTEN[id(node)] = node, written_of(direct, node.selection_set)
    return known[1]


def is_awaitable(value: Any) -> TypeGuard[Awaitable[Any]]:
    """Whether it can be awaited, which GraphQL asks of each value; its type tells, and is asked once."""
    kind = type(value)
    known = _AWAITABLE.get(kind)
    if known is None:
        known = _AWAITABLE[kind] = hasattr(kind, "__await__")
    return known
