"""Answers in parts: whether a document asks for one, and why one may not be had."""

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

from schema.errors import refusal

_DIRECTIVES = frozenset(("defer", "stream"))


def uses_incremental_delivery(document: DocumentNode, variables: Mapping[str, object] | None = None) -> bool:
    """Whether ``@defer`` or ``@stream`` is in effect somewhere in the document."""
    search = _DirectiveFinder(variables or {})
    visit(document, search)
    return search.found


def may_ask_for_parts(query: str | None) -> bool:
    """Almost never; and told without reading it."""
    return query is not None and any(f"@{name}" in query for name in _DIRECTIVES)


def wrong_initial_counts(document: DocumentNode, variables: Mapping[str, object] | None = None) -> list[GraphQLError]:
    """Return an error for each ``@stream`` whose initialCount is null or negative, which validation does not find."""
    search = _InitialCounts(variables or {})
    visit(document, search)
    return search.errors


def whole_only(where: str) -> GraphQLError:
    return refusal(f"{where} brings an answer whole: leave @defer and @stream out.")


class _DirectiveFinder(Visitor):
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


class _InitialCounts(Visitor):
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
            if argument.name.value == "initialCount" and self._is_wrong(argument.value):
                error = refusal("The initialCount of @stream must be 0 or more.")
                self.errors.append(GraphQLError(error.message, nodes=argument, extensions=error.extensions))

    def _is_wrong(self, value: ValueNode | None) -> bool:
        if isinstance(value, VariableNode):
            name = value.name.value
            if name not in self._variables:
                default = self._defaults.get(name)
                return default is not None and self._is_wrong(default)
            given = self._variables[name]
            return given is None or (isinstance(given, int | float) and given < 0)
        return isinstance(value, NullValueNode) or (isinstance(value, IntValueNode) and value.value.startswith("-"))
