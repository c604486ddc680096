"""All arguments and input fields of the schema, and documents that put any value into one of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    get_named_type,
    is_leaf_type,
    is_required_argument,
    is_required_input_field,
)

Inputs = Mapping[str, GraphQLArgument] | Mapping[str, GraphQLInputField]

VALUES: tuple[str, ...] = (
    # numbers and constants, valid in JSON and mostly in GraphQL
    *("null", "true", "false", "0", "-0", "-1", "1", "101", "1.5", "-0.0", "1e308", "1e400", "-1e400"),
    *("2147483648", "-2147483649", "9007199254740993", "9223372036854775808", "1" + "0" * 400, "1e-400"),
    *("NaN", "Infinity", "-Infinity"),
    # text
    *('""', '" "', '"x"', '"null"', '"1e5"', '"0x1"', '"-1"', '"NaN"', '"true"'),
    *(r'"\u0000"', r'"a\u0000b"', r'"\ud800"', r'"\udfffx"', r'"\ud83d\udca5"', r'"\u202e\u200b\ufeff"', r'"\u00df"'),
    *(f'"{"a" * 201}"', f'"{"a" * 5000}"', '"\u00e9\u0301\u4e2d"', r'"\r\n"', '"%s%n{}${x}"', '"\'; --"'),
    # addresses, codes, tags, dates, media types
    *('"a@b"', r'"a\u0000@example.com"', r'"\ud800@example.com"', '"@"', f'"{"a" * 245}@b.example"'),
    *('"123456"', '"\u0661\u0662\u0663\u0664\u0665\u0666"', '"en"', '"../etc/passwd"', r'"Europe/\u0000"'),
    *('"2026-13-45T99:99:99Z"', '"0000-00-00"', '"9999-12-31T23:59:60Z"', '"+275760-09-13T00:00:00Z"'),
    # ids and cursors
    *(f'"{kind}-{"f" * 32}"' for kind in ("login", "tenant-switch", "file-upload", "user-onboarding", "nothing")),
    *(f'"{kind}_{"f" * 32}"' for kind in ("usr", "ten", "fil", "wsp", "ses", "upl", "xyz")),
    *(f'"login-{"F" * 32}"', '"login-' + "\uff11" * 32 + '"', r'"login-' + r"\u0000" * 32 + '"', f'"-{"f" * 32}"'),
    *('"eyJ"', '"bm9uc2Vuc2U="', '"."', '"a.b"', '"=="', r'"\ud800.\ud800"'),
    # lists and objects
    *("[]", "[[]]", "[null]", '["x"]', '["x","x"]', f"[{','.join(['1'] * 101)}]", "[" * 20 + "1" + "]" * 20),
    *("{}", '{"a":1}', '{"__proto__":{}}', '{"":1}'),
)
"""Hostile values as JSON text; invalid JSON such as NaN is included."""

DEFAULT_VALUES: dict[str, str] = {
    "email": '"a@example.com"',
    "name": '"A name"',
    "password": '"a wrong password"',
    "code": '"123456"',
    "contentType": '"text/plain"',
    "size": "1",
    "waitSeconds": "0",
}
"""Valid values by the name of the argument or field; other values are derived from the type."""


@dataclass(frozen=True)
class Slot:
    """One argument or input field: ``field_path`` leads from the root to the field, ``path`` to the value in its
    arguments.
    """

    root: str
    field_path: tuple[str, ...]
    path: tuple[str, ...]
    type: GraphQLInputType

    def __str__(self) -> str:
        return f"{self.root} {'.'.join(self.field_path)}({'.'.join(self.path)})"


def slots(schema: GraphQLSchema) -> Iterator[Slot]:
    """Yield every argument and every input field of all fields that a document can reach."""
    roots = {"query": schema.query_type, "mutation": schema.mutation_type, "subscription": schema.subscription_type}
    for root, type_ in roots.items():
        assert type_ is not None
        for name, field in type_.fields.items():
            yield from _slots_of_field(root, (name,), field, visited=frozenset((type_.name,)))


def _slots_of_field(
    root: str, field_path: tuple[str, ...], field: GraphQLField, visited: frozenset[str]
) -> Iterator[Slot]:
    yield from _slots_of_inputs(root, field_path, (), field.args)
    below = get_named_type(field.type)
    needs_input = any(is_required_argument(each) for each in field.args.values())
    if isinstance(below, GraphQLObjectType) and below.name not in visited and not needs_input:
        for name, each in below.fields.items():
            yield from _slots_of_field(root, (*field_path, name), each, visited | {below.name})


def _slots_of_inputs(root: str, field_path: tuple[str, ...], path: tuple[str, ...], inputs: Inputs) -> Iterator[Slot]:
    for name, each in inputs.items():
        yield Slot(root, field_path, (*path, name), each.type)
        named = get_named_type(each.type)
        if isinstance(named, GraphQLInputObjectType) and named.name not in path:
            yield from _slots_of_inputs(root, field_path, (*path, name), named.fields)


def document(
    schema: GraphQLSchema,
    slot: Slot,
    value: str,
    *,
    declared: str | None = None,
    depth: int = 2,
    default_values: Mapping[str, str] = DEFAULT_VALUES,
) -> str:
    """Return a document with ``value`` (GraphQL text or a variable) in the slot, which selects the fields below.

    Args:
        declared: Type of the variable ``$v``, if the document has one.
        depth: Number of levels of objects in the selection.
        default_values: Values of other required arguments, by name.
    """
    type_ = {"query": schema.query_type, "mutation": schema.mutation_type, "subscription": schema.subscription_type}[
        slot.root
    ]
    assert type_ is not None
    opened, closed, field = "", "", None
    for name in slot.field_path:
        assert isinstance(type_, GraphQLObjectType)
        field = type_.fields[name]
        path = slot.path if name is slot.field_path[-1] else ()
        written = _fields(field.args, path, value, default_values)
        arguments = f"({written})" if written else ""
        opened, closed = f"{opened} {{ {name}{arguments}", f" }}{closed}"
        below = get_named_type(field.type)
        type_ = below if isinstance(below, GraphQLObjectType) else type_
    assert field is not None
    head = f"{slot.root} ($v: {declared})" if declared else slot.root
    return f"{head}{opened} {selection(schema, field.type, depth)}{closed}"


def selection(schema: GraphQLSchema, type_: object, depth: int) -> str:
    """Return a selection of all fields without arguments, this many levels deep, with the types of an interface."""
    named = get_named_type(type_)  # type: ignore[call-overload] # any type of an output field
    if is_leaf_type(named):
        return ""
    parts = ["__typename"]
    if isinstance(named, GraphQLObjectType | GraphQLInterfaceType):
        for name, field in named.fields.items():
            below = get_named_type(field.type)
            if field.args or (not is_leaf_type(below) and depth <= 0):
                continue
            parts.append(f"{name} {selection(schema, below, depth - 1)}".strip())
    if isinstance(named, GraphQLInterfaceType | GraphQLUnionType) and depth > 0:
        interface_fields = named.fields if isinstance(named, GraphQLInterfaceType) else {}
        for each in schema.get_possible_types(named):
            more = [name for name, field in each.fields.items() if name not in interface_fields and not field.args]
            inner = " ".join(f"{name} {selection(schema, each.fields[name].type, depth - 1)}" for name in more)
            if inner:
                parts.append(f"... on {each.name} {{ {inner} }}")
    return f"{{ {' '.join(parts)} }}"


def as_graphql(value: str) -> str | None:
    """Return the JSON value as a GraphQL literal; None if there is no such literal."""
    if value in ("NaN", "Infinity", "-Infinity"):
        return value.lstrip("-")  # the name of an enum value
    if value.startswith("{"):
        return {"{}": "{}", '{"a":1}': "{a: 1}", '{"__proto__":{}}': "{__proto__: {}}"}.get(value)
    return value


def _fields(inputs: Inputs, path: tuple[str, ...], value: str, default_values: Mapping[str, str]) -> str:
    parts = []
    for name, each in inputs.items():
        required = is_required_argument(each) if isinstance(each, GraphQLArgument) else is_required_input_field(each)
        if path and name == path[0]:
            parts.append(f"{name}: {_inner(each.type, path[1:], value, default_values)}")
        elif required:
            parts.append(f"{name}: {_default_value(name, each.type, default_values)}")
    return ", ".join(parts)


def _inner(type_: GraphQLInputType, path: tuple[str, ...], value: str, default_values: Mapping[str, str]) -> str:
    if not path:
        return value
    named = get_named_type(type_)
    assert isinstance(named, GraphQLInputObjectType)
    written = f"{{{_fields(named.fields, path, value, default_values)}}}"
    return f"[{written}]" if _is_list(type_) else written


def _is_list(type_: GraphQLInputType) -> bool:
    return isinstance(type_.of_type if isinstance(type_, GraphQLNonNull) else type_, GraphQLList)


def _default_value(name: str, type_: GraphQLInputType, default_values: Mapping[str, str]) -> str:
    named = get_named_type(type_)
    if name in default_values:
        written = default_values[name]
    elif isinstance(named, GraphQLInputObjectType):
        written = f"{{{_fields(named.fields, (), '', default_values)}}}"
    elif isinstance(named, GraphQLEnumType):
        written = next(iter(named.values))
    else:
        written = {"Int": "1", "Float": "1", "Boolean": "true"}.get(named.name, json.dumps("x"))
    return f"[{written}]" if _is_list(type_) else written
