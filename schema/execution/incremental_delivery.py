"""Incremental delivery (``@defer`` and ``@stream``): detection in a document, and errors for its misuse."""

from __future__ import annotations

from collections.abc import Mapping

from graphql import (
    BooleanValueNode,
    DirectiveNode,
    DocumentNode,
    GraphQLError,
    IntValueNode,
    NullValueNode,
    ValueNode,
    VariableNode,
    Visitor,
    visit,
)

from schema.errors import bad_request

_DIRECTIVES = frozenset(("defer", "stream"))


def uses_incremental_delivery(document: DocumentNode, variables: Mapping[str, object] | None = None) -> bool:
    """Return whether the document contains ``@defer`` or ``@stream`` that is not disabled by its ``if`` argument."""
    finder = _DirectiveFinder(variables or {})
    visit(document, finder)
    return finder.found


def may_use_incremental_delivery(query: str | None) -> bool:
    """Return False if the text contains neither ``@defer`` nor ``@stream``: a fast check before parsing."""
    return query is not None and any(f"@{name}" in query for name in _DIRECTIVES)


def initial_count_errors(document: DocumentNode, variables: Mapping[str, object] | None = None) -> list[GraphQLError]:
    """Return an error for each ``@stream`` whose initialCount is null or negative, which validation does not find."""
    validator = _InitialCountValidator(variables or {})
    visit(document, validator)
    return validator.errors


def incremental_delivery_error(where: str) -> GraphQLError:
    """Return the error for a transport (``where``, for example "This connection") without incremental delivery."""
    return bad_request(f"{where} does not support incremental delivery: remove @defer and @stream.")


class _DirectiveFinder(Visitor):
    """Finds active ``@defer`` and ``@stream`` directives."""

    def __init__(self, variables: Mapping[str, object]) -> None:
        super().__init__()
        self._variables = variables
        self.found = False

    def enter_directive(self, node: DirectiveNode, *_: object) -> None:
        if node.name.value in _DIRECTIVES:
            condition = next((each.value for each in node.arguments or () if each.name.value == "if"), None)
            self.found = self.found or not self._is_false(condition)

    def _is_false(self, condition: ValueNode | None) -> bool:
        if isinstance(condition, VariableNode):
            return self._variables.get(condition.name.value) is False
        return isinstance(condition, BooleanValueNode) and not condition.value


class _InitialCountValidator(Visitor):
    """Collects an error for each ``@stream`` whose initialCount is null or negative."""

    def __init__(self, variables: Mapping[str, object]) -> None:
        super().__init__()
        self._variables = variables
        self._defaults: dict[str, ValueNode | None] = {}
        self.errors: list[GraphQLError] = []

    def enter_document(self, document: DocumentNode, *_: object) -> None:
        for definition in document.definitions:
            for variable in getattr(definition, "variable_definitions", None) or ():
                self._defaults[variable.variable.name.value] = variable.default_value

    def enter_directive(self, node: DirectiveNode, *_: object) -> None:
        if node.name.value != "stream":
            return
        for argument in node.arguments or ():
            if argument.name.value == "initialCount" and self._is_invalid(argument.value):
                error = bad_request("The initialCount of @stream must be 0 or more.")
                self.errors.append(GraphQLError(error.message, nodes=argument, extensions=error.extensions))

    def _is_invalid(self, value: ValueNode | None) -> bool:
        if isinstance(value, VariableNode):
            name = value.name.value
            if name not in self._variables:
                default = self._defaults.get(name)
                return default is not None and self._is_invalid(default)
            provided = self._variables[name]
            return provided is None or (isinstance(provided, int | float) and provided < 0)
        return isinstance(value, NullValueNode) or (isinstance(value, IntValueNode) and value.value.startswith("-"))
