"""Fields that need no ceremony: where an attribute is read, or a function called that takes nothing of the client's.

Strawberry and graphql-core do for each value of an answer what only some need: arguments, extensions, an account of
where the value stands. An operation with its steps is thirty values, written anew at each step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from functools import partial
from inspect import iscoroutinefunction
from types import CoroutineType
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
    get_nullable_type,
    is_leaf_type,
    is_nullable_type,
)
from strawberry.schema.schema_converter import CustomGraphQLEnumType, GraphQLCoreConverter
from strawberry.types.field import StrawberryField

DIRECT = "adx-direct"
"""Under this a field of GraphQL's bears how it is answered."""

_PLAIN = {"String": str, "ID": str, "Boolean": bool}
"""Values of these types stand in an answer as they are."""

Leaf: TypeAlias = Callable[[Any], object]
"""Gives a value as it stands in an answer."""
Write: TypeAlias = Callable[[Any, Any], object]
"""The same of a value with parts; is given what resolvers are given as ``info``, too."""
Select: TypeAlias = Callable[[GraphQLObjectType, Sequence[FieldNode]], Mapping[str, Sequence[FieldNode]] | None]
"""What is asked of a value of the type by these fields, under the keys of the answer; None where that depends."""


class Direct(NamedTuple):
    """Either the ``attribute`` has the value, or ``call`` does, a function of the value around it and of ``info``.

    ``leaf`` raises what it likes where it cannot write it. It is None where that depends on what is selected of
    ``kind``, of which there is one, or are several.
    """

    attribute: str
    call: Write | None
    may_be_null: bool
    leaf: Leaf | None
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
    call = None
    if bound.base_resolver is not None:
        field.resolve = _as_resolver(bound)
        if iscoroutinefunction(bound.base_resolver.wrapped_func):
            return
        call = _as_function(bound)
    field.extensions[DIRECT] = _direct(bound.python_name, call, field.type)


def _direct(attribute: str, call: Write | None, declared: GraphQLOutputType) -> Direct | None:
    kind, may_be_null = get_nullable_type(declared), is_nullable_type(declared)
    if is_leaf_type(kind):
        return Direct(attribute, call, may_be_null, _writing(kind))
    one = get_nullable_type(kind.of_type) if isinstance(kind, GraphQLList) else kind
    if isinstance(kind, GraphQLList) and is_leaf_type(one) and not is_nullable_type(kind.of_type):
        return Direct(attribute, call, may_be_null, partial(_each_coerced, _writing(one)))
    if not isinstance(one, GraphQLObjectType):
        return None
    return Direct(attribute, call, may_be_null, None, one, is_list=isinstance(kind, GraphQLList))


def writing(kind: GraphQLObjectType, nodes: Sequence[FieldNode], select: Select) -> Write | None:
    """How what is selected of a value of the type is written; None where anything of it needs ceremony."""
    selected = select(kind, nodes)
    if selected is None:
        return None
    parts: list[_Part] = []
    for key, each in selected.items():
        part = _part(key, _direct_of(kind, each[0].name.value), each, select)
        if part is None:
            return None
        parts.append(part)

    return partial(_written, tuple(parts))


class _Part(NamedTuple):
    key: str
    attribute: str
    call: Write | None
    may_be_null: bool
    leaf: Leaf | None
    inner: Write | None


def _part(key: str, direct: Direct | None, nodes: Sequence[FieldNode], select: Select) -> _Part | None:
    if direct is None:
        return None
    inner = None if direct.kind is None else writing(direct.kind, nodes, select)
    if direct.leaf is None and inner is None:
        return None
    if inner is not None and direct.is_list:
        inner = partial(write_all, inner)
    return _Part(key, direct.attribute, direct.call, direct.may_be_null, direct.leaf, inner)


def plainly(_kind: GraphQLObjectType, nodes: Sequence[FieldNode]) -> Mapping[str, Sequence[FieldNode]] | None:
    """What is asked of a value whatever its type and the variables are."""
    selected: dict[str, list[FieldNode]] = {}
    for node in nodes:
        for each in node.selection_set.selections if node.selection_set else ():
            if not isinstance(each, FieldNode) or each.directives:
                return None
            selected.setdefault((each.alias or each.name).value, []).append(each)
    return selected


def _written(parts: Sequence[_Part], value: Any, info: Any) -> object:
    if value is None:
        raise ValueError("a value that is not there")
    written: dict[str, object] = {}
    for key, attribute, call, may_be_null, leaf, inner in parts:
        part = getattr(value, attribute) if call is None else call(value, info)
        if type(part) is CoroutineType:
            part.close()
            raise TypeError("a value that is not there yet")
        if part is None and may_be_null:
            written[key] = None
        elif leaf is not None:
            written[key] = leaf(part)
        elif inner is not None:
            written[key] = inner(part, info)
    return written


def write_all(write: Write, values: Any, info: Any) -> object:
    return [write(value, info) for value in values]


def _direct_of(kind: GraphQLObjectType, name: str) -> Direct | None:
    if name == "__typename":
        return Direct("", lambda _value, _info: kind.name, may_be_null=False, leaf=str)
    field = kind.fields.get(name)
    return field.extensions.get(DIRECT) if field else None


def _as_resolver(bound: StrawberryField) -> Callable[..., object]:
    """The field's function, as GraphQL calls it."""
    function = _as_function(bound)
    if bound.base_resolver is None or bound.base_resolver.info_parameter is None:
        return function
    return lambda source, raw: function(source, strawberry.Info(_raw_info=raw, _field=bound))


def _as_function(bound: StrawberryField) -> Write:
    """The field's function, for who has an ``info`` of Strawberry's at hand."""
    resolver = bound.base_resolver
    assert resolver is not None
    function = cast("Callable[..., object]", resolver.wrapped_func)
    parent, info = resolver.parent_parameter, resolver.info_parameter
    if info is None:
        return (lambda value, _info: function(value)) if parent else (lambda _value, _info: function())
    name = info.name
    if parent:
        return lambda value, told: function(value, **{name: told})
    return lambda _value, told: function(**{name: told})


def _writing(kind: GraphQLLeafType) -> Leaf:
    if not isinstance(kind, CustomGraphQLEnumType):
        return partial(_coerced, kind.coerce_output_value, _PLAIN.get(kind.name))
    members: Iterable[Enum] = kind.wrapped_cls
    names = {member: name for name, value in kind.values.items() for member in members if member.value == value.value}
    if any(name != member.value for member, name in names.items()):
        return names.__getitem__
    # Its own name without Python's way to look up a member, which takes longer than all else here.
    return lambda value: value._value_ if type(value) is kind.wrapped_cls else names[value]


def _each_coerced(write: Leaf, values: Iterable[Any]) -> object:
    return [write(value) for value in values]


def _coerced(coerce: Leaf, plain: type | None, value: object) -> object:
    if type(value) is plain:
        return value
    written = None if value is None else coerce(value)
    if written is None:
        raise ValueError("a value that cannot be written")
    return written
