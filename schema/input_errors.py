"""Locate invalid literals and variables: the path of argument name and input fields to the invalid value."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress

from graphql import (
    ArgumentNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLError,
    ListValueNode,
    Node,
    ObjectValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    is_input_type,
    type_from_ast,
)
from graphql.pyutils import Undefined
from graphql.utilities import validate_input_value
from strawberry.types import ExecutionContext

from contracts.errors import FieldError

_MAX_ERRORS = 20
_NAMED_FIELD = re.compile(r"(?:required|unknown) field ['\"](\w+)['\"]|[Aa]rgument ['\"](?:\w+\.\w+\()?(\w+)")
_QUOTED_VALUE = re.compile(r"(?:[.;,] |, but encountered .*; )[Ff]ound: .*\Z", re.DOTALL)

Path = tuple[str, ...]


class _TooManyErrors(Exception):
    """Ends the validation of a variable once ``_MAX_ERRORS`` errors are found."""


def variable_errors(execution: ExecutionContext) -> list[FieldError]:
    """Return the errors in the variables of an execution, at most ``_MAX_ERRORS``.

    The path of each error begins with the path of the argument in which the variable is used.
    """
    document = execution.graphql_document
    operation = _operation(document, execution.operation_name)
    if document is None or operation is None:
        return []
    schema = execution.schema._schema  # noqa: SLF001 - Strawberry has no public attribute for the schema of graphql-core
    argument_paths = _variable_paths(document)
    fields: list[FieldError] = []
    for definition in operation.variable_definitions or ():
        name = definition.variable.name.value
        type_ = type_from_ast(schema, definition.type)
        value = (execution.variables or {}).get(name, Undefined)
        if not is_input_type(type_) or (value is Undefined and definition.default_value is not None):
            continue
        argument_path = argument_paths.get(name, (name,))

        def collect(error: GraphQLError, path: list[str | int], argument_path: Path = argument_path) -> None:
            if len(fields) >= _MAX_ERRORS:
                raise _TooManyErrors
            fields.append(_field_error((*argument_path, *map(str, path)), error.message))

        with suppress(_TooManyErrors):
            validate_input_value(value, type_, collect, hide_suggestions=True)
    return fields


def literal_errors(error: GraphQLError, execution: ExecutionContext | None) -> list[FieldError]:
    """Return the path of an invalid literal or a missing argument; an empty list if the error concerns neither."""
    document = execution.graphql_document if execution else None
    if document is None or not error.nodes:
        return []
    node = error.nodes[0]
    if isinstance(node, FieldNode):
        named = _NAMED_FIELD.search(error.message)
        return [_field_error((), error.message)] if named else []
    paths = {id(value): path for value, path in _values(document)}
    path = paths.get(id(node))
    return [] if path is None else [_field_error(path, error.message)]


def _field_error(path: Path, message: str) -> FieldError:
    """Return an error with the path of a missing or unknown field, and without the value, which may be secret."""
    named = _NAMED_FIELD.search(message)
    name = (named[1] or named[2]) if named else None
    if name is not None and path[-1:] != (name,):
        path = (*path, name)
    return FieldError(path=path, message=_QUOTED_VALUE.sub(".", message))


def _operation(document: DocumentNode | None, name: str | None) -> OperationDefinitionNode | None:
    operations = (
        [node for node in document.definitions if isinstance(node, OperationDefinitionNode)] if document else []
    )
    return next((node for node in operations if name is None or (node.name and node.name.value == name)), None)


def _variable_paths(document: DocumentNode) -> dict[str, Path]:
    """Return the path of the first use of each variable, by the name of the variable."""
    paths: dict[str, Path] = {}
    for node, path in _values(document):
        if isinstance(node, VariableNode):
            paths.setdefault(node.name.value, path)
    return paths


def _values(document: DocumentNode) -> Iterator[tuple[Node, Path]]:
    """Yield each argument and value of the document with its path."""
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode | FragmentDefinitionNode):
            yield from _selection_values(definition.selection_set)


def _selection_values(selection_set: SelectionSetNode | None) -> Iterator[tuple[Node, Path]]:
    for selection in selection_set.selections if selection_set else ():
        if isinstance(selection, FieldNode):
            for argument in selection.arguments or ():
                yield from _argument_values(argument)
        yield from _selection_values(getattr(selection, "selection_set", None))


def _argument_values(argument: ArgumentNode) -> Iterator[tuple[Node, Path]]:
    path = (argument.name.value,)
    yield argument, path
    yield from _nested_values(argument.value, path)


def _nested_values(value: ValueNode, path: Path) -> Iterator[tuple[Node, Path]]:
    yield value, path
    if isinstance(value, ObjectValueNode):
        for field in value.fields:
            yield field, (*path, field.name.value)
            yield from _nested_values(field.value, (*path, field.name.value))
    elif isinstance(value, ListValueNode):
        for index, item in enumerate(value.values):
            yield from _nested_values(item, (*path, str(index)))
