"""Fields that need no ceremony: where an attribute is read, or a function called that takes no argument.

Strawberry and graphql-core do for each value of an answer what only some need: arguments, extensions, an account of
where the value stands. An operation with its steps is thirty values, written anew at each step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from functools import partial
from typing import Any, NamedTuple, TypeAlias, cast

import strawberry
from graphql import (
    FieldNode,
    GraphQLField,
    GraphQLLeafType,
    GraphQLList,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLSchema,
    SelectionSetNode,
    get_nullable_type,
    is_leaf_type,
    is_nullable_type,
)
from strawberry.schema.schema_converter import CustomGraphQLEnumType, GraphQLCoreConverter
from strawberry.types.field import StrawberryField

DIRECT = "adx-direct"
"""Under this a field of GraphQL's bears how it is answered by an attribute."""

Write: TypeAlias = Callable[[Any], object]


class Direct(NamedTuple):
    """``write`` gives the attribute's value as it stands in an answer, and raises what it likes where it cannot. It is
    None where that depends on what is selected of ``kind``, of which the attribute holds one, or several.
    """

    attribute: str
    may_be_null: bool
    write: Write | None
    kind: GraphQLObjectType | None = None
    is_list: bool = False


def make_direct(schema: GraphQLSchema) -> None:
    """Have the fields of its types, the subscriptions aside, answered without ceremony where they need none."""
    for kind in schema.type_map.values():
        if isinstance(kind, GraphQLObjectType) and kind is not schema.subscription_type:
            for field in kind.fields.values():
                _make_direct(field)


def _make_direct(field: GraphQLField) -> None:
    bound = (field.extensions or {}).get(GraphQLCoreConverter.DEFINITION_BACKREF)
    if not isinstance(bound, StrawberryField) or bound.extensions or field.args:
        return
    if bound.base_resolver is not None:
        field.resolve = _calling(bound)
    else:
        field.extensions[DIRECT] = _direct(bound.python_name, field.type)


def _direct(attribute: str, declared: GraphQLOutputType) -> Direct | None:
    kind, may_be_null = get_nullable_type(declared), is_nullable_type(declared)
    if is_leaf_type(kind):
        return Direct(attribute, may_be_null, _writing(kind))
    one = get_nullable_type(kind.of_type) if isinstance(kind, GraphQLList) else kind
    if not isinstance(one, GraphQLObjectType):
        return None
    return Direct(attribute, may_be_null, None, one, is_list=isinstance(kind, GraphQLList))


def written_of(direct: Direct, selected: SelectionSetNode) -> Write | None:
    """How what is selected of the attribute is written; None where anything of it needs ceremony."""
    assert direct.kind is not None
    parts: list[tuple[str, str, bool, Write]] = []
    for node in selected.selections:
        if not isinstance(node, FieldNode) or node.directives or node.arguments:
            return None
        field = direct.kind.fields.get(node.name.value)
        part: Direct | None = field.extensions.get(DIRECT) if field else None
        if part is None:
            return None
        write = part.write or (written_of(part, node.selection_set) if node.selection_set else None)
        if write is None:
            return None
        parts.append(((node.alias or node.name).value, part.attribute, part.may_be_null, write))

    def write_one(value: Any) -> object:
        written: dict[str, object] = {}
        for key, attribute, may_be_null, write in parts:
            part = getattr(value, attribute)
            written[key] = None if part is None and may_be_null else write(part)
        return written

    return (lambda values: [write_one(each) for each in values]) if direct.is_list else write_one


def _calling(bound: StrawberryField) -> Callable[..., object]:
    resolver = bound.base_resolver
    assert resolver is not None
    function = cast("Callable[..., object]", resolver.wrapped_func)
    parent, info = resolver.parent_parameter, resolver.info_parameter
    if info is None:
        return (lambda source, _info: function(source)) if parent else (lambda _source, _info: function())
    name = info.name

    def call(source: object, raw: Any) -> object:
        told = {name: strawberry.Info(_raw_info=raw, _field=bound)}
        return function(source, **told) if parent else function(**told)

    return call


def _writing(kind: GraphQLLeafType) -> Write:
    if not isinstance(kind, CustomGraphQLEnumType):
        return partial(_coerced, kind.coerce_output_value)
    members: Iterable[Enum] = kind.wrapped_cls
    names = {member: name for name, value in kind.values.items() for member in members if member.value == value.value}
    return names.__getitem__


def _coerced(coerce: Write, value: object) -> object:
    written = None if value is None else coerce(value)
    if written is None:
        raise ValueError("a value that cannot be written")
    return written
