"""Every place of the schema where a client gives an id, and a document that gives one there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from graphql import (
    GraphQLArgument,
    GraphQLField,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNamedType,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    get_named_type,
    is_leaf_type,
    is_required_argument,
    is_required_input_field,
)

_STATE = """
  __typename status startedBy { id } tenant { id }
  error { code message step retryable userRecoverable compensated fields { path message } }
"""
"""All of an operation but what differs between any two: its id and its times."""
_MORE = {
    "Login": "challenge { method }",
    "TenantSwitch": "fromTenant { id } toTenant { id }",
}

Slot = GraphQLArgument | GraphQLInputField


@dataclass(frozen=True)
class Place:
    """An argument of type ID, or a field of that type in one: ``path`` leads to it from the argument."""

    owner: str
    field: str
    path: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.owner}.{self.field}({'.'.join(self.path)})"


def places(schema: GraphQLSchema) -> Iterator[Place]:
    """Everywhere, in all types; also those that nothing leads to yet."""
    for directive in schema.directives:
        for name, argument in directive.args.items():
            for path in _ids(argument.type, (name,), ()):
                yield Place(f"@{directive.name}", "", path)
    for type_ in schema.type_map.values():
        if isinstance(type_, GraphQLObjectType | GraphQLInterfaceType) and not type_.name.startswith("__"):
            for field_name, field in type_.fields.items():
                for name, argument in field.args.items():
                    for path in _ids(argument.type, (name,), ()):
                        yield Place(type_.name, field_name, path)


def _ids(type_: GraphQLInputType, path: tuple[str, ...], seen: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    named = get_named_type(type_)
    if named.name == "ID":
        yield path
    elif isinstance(named, GraphQLInputObjectType) and named.name not in seen:
        for name, field in named.fields.items():
            yield from _ids(field.type, (*path, name), (*seen, named.name))


_PATHS = {"Viewer": "viewer { %s }", "Tenant": "viewer { tenantOverview { currentTenant { %s } } }"}
"""The selection that leads from the query type to another type; ``%s`` is the field to select there."""


class CannotBeExercised(Exception):
    """The message says what ``document`` does not know."""


def document(schema: GraphQLSchema, place: Place, given: Mapping[str, str]) -> str:
    """A document with the variable ``$id`` in that place and nothing but what is required elsewhere.

    ``given`` has values for that, as they are written in GraphQL, by the names of fields and arguments. It waits for
    operations, and asks for all that is the same each time. Raises CannotBeExercised.
    """
    roots = {"Query": schema.query_type, "Mutation": schema.mutation_type, "Subscription": schema.subscription_type}
    root: GraphQLNamedType | None = roots.get(place.owner)
    way = "%s"
    if root is None and place.owner in _PATHS:
        root, way = schema.type_map[place.owner], _PATHS[place.owner]
    if not isinstance(root, GraphQLObjectType):
        raise CannotBeExercised(f"{place} is not at a root of the schema: say here how to come there.")
    field = root.fields[place.field]
    arguments = ", ".join(_written(field.args, place.path, given, place))
    operation = place.owner.lower() if place.owner in roots else "query"
    return f"{operation} ($id: ID!) {{ {way % f'{place.field}({arguments}){_selection(field)}'} }}"


def _written(slots: Mapping[str, Slot], path: tuple[str, ...], given: Mapping[str, str], place: Place) -> Iterator[str]:
    for name, slot in slots.items():
        if path and name == path[0]:
            yield f"{name}: {_value(slot.type, path[1:], given, place)}"
        elif name in given:
            yield f"{name}: {given[name]}"
        elif is_required_argument(slot) if isinstance(slot, GraphQLArgument) else is_required_input_field(slot):
            raise CannotBeExercised(f"{place} needs {name} as well, which is not known here.")


def _value(type_: GraphQLInputType, path: tuple[str, ...], given: Mapping[str, str], place: Place) -> str:
    if isinstance(type_, GraphQLNonNull):
        return _value(type_.of_type, path, given, place)
    if isinstance(type_, GraphQLList):
        return f"[{_value(type_.of_type, path, given, place)}]"
    if isinstance(type_, GraphQLInputObjectType):
        return f"{{{', '.join(_written(type_.fields, path, given, place))}}}"
    return "$id"


def _selection(field: GraphQLField) -> str:
    named = get_named_type(field.type)
    if is_leaf_type(named):
        return ""
    if named.name == "Operation":
        more = " ".join(f"... on {name} {{ {fields} }}" for name, fields in _MORE.items())
        return f"{{ {_STATE} {more} }}"
    if isinstance(named, GraphQLObjectType) and "operation" in named.fields:
        operation = get_named_type(named.fields["operation"].type)
        return f"{{ operation {{ {_STATE} {_MORE.get(operation.name, '')} }} }}"
    return "{ __typename }"
