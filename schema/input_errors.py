"""Where in the input a mistake is: the path of argument and fields to a bad literal or variable."""

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

_MOST = 20
_NAMED_FIELD = re.compile(r"(?:required|unknown) field ['\"](\w+)['\"]|[Aa]rgument ['\"](?:\w+\.\w+\()?(\w+)")
_QUOTED_VALUE = re.compile(r"(?:[.;,] |, but encountered .*; )[Ff]ound: .*\Z", re.DOTALL)

Path = tuple[str, ...]


class _TooManyErrors(Exception):
    """No more mistakes are told."""


def variable_errors(execution: ExecutionContext) -> list[FieldError]:
    """Every mistake in the variables, by the path of the argument that each variable is used for."""
    document = execution.graphql_document
    operation = _operation(document, execution.operation_name)
    if document is None or operation is None:
        return []
    schema = execution.schema._schema  # noqa: SLF001 - Strawberry has no other way to it
    uses = _uses(document)
    fields: list[FieldError] = []
    for definition in operation.variable_definitions or ():
        name = definition.variable.name.value
        type_ = type_from_ast(schema, definition.type)
        value = (execution.variables or {}).get(name, Undefined)
        if not is_input_type(type_) or (value is Undefined and definition.default_value is not None):
            continue
        place = uses.get(name, (name,))

        def note(error: GraphQLError, path: list[str | int], place: Path = place) -> None:
            if len(fields) >= _MOST:
                raise _TooManyErrors
            fields.append(_field_error((*place, *map(str, path)), error.message))

        with suppress(_TooManyErrors):
            validate_input_value(value, type_, note, hide_suggestions=True)
    return fields


def literal_errors(error: GraphQLError, execution: ExecutionContext | None) -> list[FieldError]:
    """The place of a bad literal or of a missing argument in the document; nothing where the error names none."""
    document = execution.graphql_document if execution else None
    if document is None or not error.nodes:
        return []
    node = error.nodes[0]
    if isinstance(node, FieldNode):
        named = _NAMED_FIELD.search(error.message)
        return [_field_error((), error.message)] if named else []
    places = {id(value): path for value, path in _values(document)}
    path = places.get(id(node))
    return [] if path is None else [_field_error(path, error.message)]


def _field_error(path: Path, message: str) -> FieldError:
    """GraphQL names a missing or unknown field in the message; the value it quotes may be secret and is left out."""
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


def _uses(document: DocumentNode) -> dict[str, Path]:
    """The first place that each variable is used in."""
    uses: dict[str, Path] = {}
    for node, path in _values(document):
        if isinstance(node, VariableNode):
            uses.setdefault(node.name.value, path)
    return uses


def _values(document: DocumentNode) -> Iterator[tuple[Node, Path]]:
    """Every argument and value of the document with its path."""
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode | FragmentDefinitionNode):
            yield from _selected(definition.selection_set)


def _selected(selection_set: SelectionSetNode | None) -> Iterator[tuple[Node, Path]]:
    for selection in selection_set.selections if selection_set else ():
        if isinstance(selection, FieldNode):
            for argument in selection.arguments or ():
                yield from _given(argument)
        yield from _selected(getattr(selection, "selection_set", None))


def _given(argument: ArgumentNode) -> Iterator[tuple[Node, Path]]:
    path = (argument.name.value,)
    yield argument, path
    yield from _within(argument.value, path)


def _within(value: ValueNode, path: Path) -> Iterator[tuple[Node, Path]]:
    yield value, path
    if isinstance(value, ObjectValueNode):
        for field in value.fields:
            yield field, (*path, field.name.value)
            yield from _within(field.value, (*path, field.name.value))
    elif isinstance(value, ListValueNode):
        for index, item in enumerate(value.values):
            yield from _within(item, (*path, str(index)))
