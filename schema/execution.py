"""How GraphQL executes a document here: as Strawberry does, and an event of a subscription leaves nothing behind."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, TypeGuard, cast

import strawberry
from graphql import (
    ExecutionResult,
    FieldNode,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLOutputType,
    Node,
    get_nullable_type,
)
from graphql.execution.collect_fields import FieldDetails, FieldDetailsList, collect_fields
from graphql.pyutils import AwaitableOrValue, Path
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from schema.direct import DIRECT, Direct, Write, plainly, write_all, writing

_AWAITABLE: dict[type, bool] = {}
_WRITERS: dict[int, tuple[Node, dict[str, Write | None]]] = {}
"""How what is selected at a place in a document is written, by the type that stands there."""
_MOST_WRITERS = 10_000


class _RawInfo(NamedTuple):
    """What Strawberry reads of GraphQL's own ``info`` for functions that ask for nothing else."""

    context: object


class Execution(StrawberryGraphQLCoreExecutionContext):
    """One execution. graphql-core 3.3.2 hands each event of a subscription the same memory of which fields are asked
    for, under keys that no other event finds: without this it grows with every event for as long as somebody follows.
    """

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._asked: tuple[str, GraphQLOutputType, Sequence[FieldNode]] | None = None
        self._writers: dict[str, Write | None] = {}
        self._info = strawberry.Info(_raw_info=cast(Any, _RawInfo(self.context_value)), _field=cast(Any, None))

    def build_per_event_executor(self, payload: object) -> Execution:
        executor = super().build_per_event_executor(payload)
        assert isinstance(executor, Execution)
        executor._relevant_sub_fields = {}  # noqa: SLF001 - it has no other way in
        return executor

    def told(self, event: object) -> AwaitableOrValue[ExecutionResult]:
        """What a subscription says at an event of its source."""
        try:
            data = self._written(event)
        except Exception:  # noqa: BLE001 - what is wrong with it is for the execution to say
            data = None
        if data is not None:
            return ExecutionResult(data, None)
        executor = self.build_per_event_executor(event)
        return cast("AwaitableOrValue[ExecutionResult]", executor.execute_operation(serially=False))

    def _written(self, event: object) -> dict[str, object] | None:
        """The data, where all that is asked of the event needs no ceremony."""
        if self._asked is None:
            self._asked = self._all_asked()
        key, declared, nodes = self._asked
        if not isinstance(declared, GraphQLInterfaceType) or declared.resolve_type is None:
            return None
        name = declared.resolve_type(event, cast(Any, None), declared)
        kind = self.schema.get_type(name) if isinstance(name, str) else None
        if not isinstance(kind, GraphQLObjectType):
            return None
        if kind.is_type_of is not None and kind.is_type_of(event, cast(Any, None)) is not True:
            return None
        if kind.name not in self._writers:
            self._writers[kind.name] = writing(kind, nodes, self._selected)
        write = self._writers[kind.name]
        return None if write is None else {key: write(event, self._info)}

    def _all_asked(self) -> tuple[str, GraphQLOutputType, Sequence[FieldNode]]:
        """The one root field: its key in the answer, its type, and where it stands."""
        root = self.schema.subscription_type
        assert root is not None
        variables, fragments = self.variable_values, self.fragments
        found = collect_fields(self.schema, fragments, variables, root, self.operation, self.hide_suggestions)
        ((key, details),) = found.grouped_field_set.items()
        field = root.fields[details[0].node.name.value]
        body = self.operation.loc.source.body if self.operation.loc else "@"
        if "@" not in body:  # no variable tells what is asked: it is the same for all who ask it
            self._writers = _writers_at(self.operation)
        return key, get_nullable_type(field.type), [each.node for each in details]

    def _selected(
        self, kind: GraphQLObjectType, nodes: Sequence[FieldNode]
    ) -> Mapping[str, Sequence[FieldNode]] | None:
        details = [FieldDetails(node, None) for node in nodes]
        found = self.collect_subfields(kind, details)
        if found.new_defer_usages:
            return None
        return {key: [each.node for each in details] for key, details in found.grouped_field_set.items()}

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
        if direct is not None and direct.call is None:
            with suppress(Exception):
                value = getattr(source, direct.attribute)
                if value is None and direct.may_be_null:
                    return None
                if direct.leaf is not None:
                    return direct.leaf(value)
                write = _write_at(node, direct) if len(field_details_list) == 1 else None
                if write is not None:
                    return write(value, self._info)
        return super().execute_field(parent_type, source, field_details_list, path, position_context)


def _write_at(node: FieldNode, direct: Direct) -> Write | None:
    """How the field of a value is written, whoever asks for it there."""
    assert direct.kind is not None
    writers = _writers_at(node)
    if direct.kind.name not in writers:
        write = writing(direct.kind, (node,), plainly)
        writers[direct.kind.name] = partial(write_all, write) if write and direct.is_list else write
    return writers[direct.kind.name]


def _writers_at(node: Node) -> dict[str, Write | None]:
    """Found out once for each place in a document, for the documents that are in use."""
    known = _WRITERS.get(id(node))
    if known is None or known[0] is not node:
        while len(_WRITERS) >= _MOST_WRITERS:
            del _WRITERS[next(iter(_WRITERS))]
        known = _WRITERS[id(node)] = node, {}
    return known[1]


def is_awaitable(value: Any) -> TypeGuard[Awaitable[Any]]:
    """Whether it can be awaited, which GraphQL asks of each value; its type tells, and is asked once."""
    kind = type(value)
    known = _AWAITABLE.get(kind)
    if known is None:
        known = _AWAITABLE[kind] = hasattr(kind, "__await__")
    return known
