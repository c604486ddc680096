"""Answers in parts: whether a document asks for one, and why one may not be had."""

from __future__ import annotations

from collections.abc import Mapping

from graphql import (
    BooleanValueNode,
    DirectiveNode,
    DocumentNode,
    GraphQLError,
    ValueNode,
    VariableNode,
    Visitor,
    visit,
)

from schema.errors import refusal

_DIRECTIVES = frozenset(("defer", "stream"))


def asks_for_parts(document: DocumentNode, variables: Mapping[str, object] | None = None) -> bool:
    """Whether ``@defer`` or ``@stream`` is in effect somewhere in the document."""
    search = _Search(variables or {})
    visit(document, search)
    return search.found


def may_ask_for_parts(query: str | None) -> bool:
    """Almost never; and told without reading it."""
    return query is not None and any(f"@{name}" in query for name in _DIRECTIVES)


def whole_only(where: str) -> GraphQLError:
    return refusal(f"{where} brings an answer whole: leave @defer and @stream out.")


class _Search(Visitor):
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
