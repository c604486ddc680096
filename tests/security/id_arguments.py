"""All arguments and input fields of type ID in the schema, and a document for each."""

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
"""All fields of an operation except those that differ between any two operations: its id and its times."""
_MORE = {
    "Login": "challenge { method }",
    "TenantSwitch": "fromTenant { id } toTenant { id }",
}

ArgumentOrField = GraphQLArgument | GraphQLInputField


@dataclass(frozen=True)
class IdArgument:
    """An argument of type ID, or an input field of that type; ``path`` leads to it from the argument."""

    owner: str
    field: str
    path: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.owner}.{self.field}({'.'.join(self.path)})"


def id_arguments(schema: GraphQLSchema) -> Iterator[IdArgument]:
    """Yield all ids in arguments of all types and directives, including types that no document can reach yet."""
    for directive in schema.directives:
        for name, argument in directive.args.items():
            for path in _ids(argument.type, (name,), ()):
                yield IdArgument(f"@{directive.name}", "", path)
    for type_ in schema.type_map.values():
        if isinstance(type_, GraphQLObjectType | GraphQLInterfaceType) and not type_.name.startswith("__"):
            for field_name, field in type_.fields.items():
                for name, argument in field.args.items():
                    for path in _ids(argument.type, (name,), ()):
                        yield IdArgument(type_.name, field_name, path)


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
    """No document can be generated for the id; the message states the reason."""


def document(schema: GraphQLSchema, id_argument: IdArgument, values: Mapping[str, str]) -> str:
    """Return a document with the variable ``$id`` at this argument and only required values elsewhere.

    The document waits for operations and selects only fields that are equal in repeated executions.

    Args:
        values: GraphQL literals of other required arguments and fields, by name.

    Raises:
        CannotBeExercised: the document would need a value or a path that is not known here.
    """
    roots = {"Query": schema.query_type, "Mutation": schema.mutation_type, "Subscription": schema.subscription_type}
    root: GraphQLNamedType | None = roots.get(id_argument.owner)
    template = "%s"
    if root is None and id_argument.owner in _PATHS:
        root, template = schema.type_map[id_argument.owner], _PATHS[id_argument.owner]
    if not isinstance(root, GraphQLObjectType):
        raise CannotBeExercised(f"{id_argument} is not at a root of the schema: add its path to _PATHS.")
    field = root.fields[id_argument.field]
    arguments = ", ".join(_written(field.args, id_argument.path, values, id_argument))
    operation = id_argument.owner.lower() if id_argument.owner in roots else "query"
    return f"{operation} ($id: ID!) {{ {template % f'{id_argument.field}({arguments}){_selection(field)}'} }}"


def _written(
    inputs: Mapping[str, ArgumentOrField], path: tuple[str, ...], values: Mapping[str, str], id_argument: IdArgument
) -> Iterator[str]:
    for name, input_value in inputs.items():
        if path and name == path[0]:
            yield f"{name}: {_value(input_value.type, path[1:], values, id_argument)}"
        elif name in values:
            yield f"{name}: {values[name]}"
        elif (
            is_required_argument(input_value)
            if isinstance(input_value, GraphQLArgument)
            else is_required_input_field(input_value)
        ):
            raise CannotBeExercised(f"{id_argument} needs {name} as well, for which there is no value.")


def _value(type_: GraphQLInputType, path: tuple[str, ...], values: Mapping[str, str], id_argument: IdArgument) -> str:
    if isinstance(type_, GraphQLNonNull):
        return _value(type_.of_type, path, values, id_argument)
    if isinstance(type_, GraphQLList):
        return f"[{_value(type_.of_type, path, values, id_argument)}]"
    if isinstance(type_, GraphQLInputObjectType):
        return f"{{{', '.join(_written(type_.fields, path, values, id_argument))}}}"
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
