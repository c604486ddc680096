"""Documents as they are carried out: read, weighed and checked once, and kept while there is room."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from graphql import (
    DocumentNode,
    GraphQLError,
    GraphQLSchema,
    Lexer,
    OperationDefinitionNode,
    Source,
    TokenKind,
    parse,
    specified_rules,
    validate,
)
from graphql.validation import ASTValidationRule, OverlappingFieldsCanBeMergedRule
from graphql.validation import ValidationContext as Checking
from graphql.validation.validate import ValidationAbortedError
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule

from schema.errors import refused_document
from schema.execution.query_cost import CostAnalyzer, Limits, violations

MOST_DOCUMENTS = 1_000
MOST_TOKENS = 50_000
"""Of the documents that are kept together: a token and what is made of it take about 600 bytes."""
MOST_MISTAKES = 20
"""That are looked for in one document."""
MOST_VALUES = 1_000
"""In the variables of one request."""
MOST_NESTED = 32
"""Values within each other."""

_COMPARISONS = 30_000
"""Of fields with each other, which may have one name in an answer: a colocated fragment a component takes hundreds."""


class ParsedDocument(NamedTuple):
    """``errors``: why it cannot be carried out. ``worst_costs``: of each operation by its name, whatever its variables
    say; ``weighs_variables``: they have a part in it.
    """

    tree: DocumentNode
    tokens: int
    errors: tuple[GraphQLError, ...]
    worst_costs: Mapping[str | None, float]
    weighs_variables: bool


class DocumentCache:
    """All that one process reads. Valid ones are kept, those used longest ago dropped first.

    ``introspection``: whether the schema may be asked about; ``suggestions``: whether errors name what the writer may
    have meant, which shows parts of the schema.
    """

    def __init__(
        self, schema: GraphQLSchema, *, introspection: bool, suggestions: bool, limits: Limits | None = None
    ) -> None:
        self.schema = schema
        self._introspection = introspection
        self._suggestions = suggestions
        self._limits = limits or Limits()
        self._known: OrderedDict[str, ParsedDocument] = OrderedDict()
        self._kept_tokens = 0

    def read(self, text: str) -> ParsedDocument:
        """It, valid or not. Raises GraphQLError: BAD_USER_INPUT where it is beyond a limit, and GraphQL's own where it
        is no document at all.
        """
        document = self._known.get(text)
        if document is not None:
            self._known.move_to_end(text)
            return document
        document = self._new(text)
        if not document.errors:
            self._keep(text, document)
        return document

    def kept(self) -> Iterable[ParsedDocument]:
        """The one used longest ago first."""
        return self._known.values()

    def tree(self, text: str | None) -> DocumentNode | None:
        """What it says; None where it cannot be read, for which its execution has the words."""
        try:
            return self.read(text or "").tree
        except GraphQLError:
            return None

    def admit(self, text: str, variables: Mapping[str, object] | None, operation_name: str | None) -> ParsedDocument:
        """Read it. Raises as ``read`` does, and where the operation with these variables asks for too much."""
        document = self.read(text)
        values = variables or {}
        _admit_values(values)
        name = operation_name if operation_name is not None else next(iter(document.worst_costs), None)
        cost = document.worst_costs.get(name, 0)
        if cost > self._limits.cost and document.weighs_variables:
            cost = self._cost(document.tree, name, values)
        if cost > self._limits.cost:
            told = f"{cost:,.0f}" if cost < 1e9 else "more than can be told"
            raise refused_document(
                f"The operation would cost {told}, and at most {self._limits.cost:,.0f}: ask for less at a time."
            )
        return document

    def _new(self, text: str) -> ParsedDocument:
        if len(text) > self._limits.bytes or len(text.encode(errors="surrogatepass")) > self._limits.bytes:
            raise refused_document(f"The document is longer than {self._limits.bytes:,} bytes.")
        tokens = self._count(text)
        try:
            tree = parse(text)
            operations = [each for each in tree.definitions if isinstance(each, OperationDefinitionNode)]
            scales = CostAnalyzer(self.schema, tree, self._limits, introspection=self._introspection)
            weights = [scales.operation(each) for each in operations]
            if wrong := next(violations(weights, self._limits), None):
                raise refused_document(wrong)
            errors = self._check(tree)
        except RecursionError as error:
            raise refused_document("The document is nested too deeply.") from error
        costs = {
            each.name.value if each.name else None: weight.own for each, weight in zip(operations, weights, strict=True)
        }
        return ParsedDocument(tree, tokens, tuple(errors), costs, scales.depends_on_variables)

    def _count(self, text: str) -> int:
        """Its tokens, of which no more are read than there may be."""
        lexer, tokens = Lexer(Source(text)), 0
        while lexer.advance().kind is not TokenKind.EOF:
            tokens += 1
            if tokens > self._limits.tokens:
                raise refused_document(f"The document has more than {self._limits.tokens:,} tokens.")
        return tokens

    def _check(self, tree: DocumentNode) -> list[GraphQLError]:
        errors = validate(self.schema, tree, _RULES, max_errors=MOST_MISTAKES, hide_suggestions=not self._suggestions)
        return [_in_words(error) for error in errors]

    def _cost(self, tree: DocumentNode, name: str | None, variables: Mapping[str, object]) -> float:
        scales = CostAnalyzer(self.schema, tree, self._limits, introspection=self._introspection, variables=variables)
        return next(
            scales.operation(each).own
            for each in tree.definitions
            if isinstance(each, OperationDefinitionNode) and (each.name.value if each.name else None) == name
        )

    def _keep(self, text: str, document: ParsedDocument) -> None:
        self._known[text] = document
        self._kept_tokens += document.tokens
        while len(self._known) > MOST_DOCUMENTS or self._kept_tokens > MOST_TOKENS:
            _, dropped = self._known.popitem(last=False)
            self._kept_tokens -= dropped.tokens


class _BoundedOverlapRule(OverlappingFieldsCanBeMergedRule):
    """GraphQL's rule, whose own bound on comparisons takes a third of a second to reach."""

    def __init__(self, context: Checking) -> None:
        super().__init__(context)
        self.rule_context.remaining_complexity_budget = _COMPARISONS


_RULES: tuple[type[ASTValidationRule], ...] = (
    *(_BoundedOverlapRule if rule is OverlappingFieldsCanBeMergedRule else rule for rule in specified_rules),
    MaybeNullValidationRule,
    OneOfInputValidationRule,
)


def _in_words(error: GraphQLError) -> GraphQLError:
    if not isinstance(error, ValidationAbortedError):
        # A value that GraphQL stumbled over, as Python does over an integer of 4,300 digits, is the writer's mistake.
        stumbled = error.original_error is not None and not isinstance(error.original_error, GraphQLError)
        return GraphQLError("A value in the document is too long.", nodes=error.nodes) if stumbled else error
    if error.message.startswith("Too many"):
        return refused_document(f"The document has more than {MOST_MISTAKES} mistakes; only some are listed.")
    return refused_document("The document asks for the same fields too many times.")


def _admit_values(variables: Mapping[str, object]) -> None:
    """Raises where they are too many, or lie too deeply within each other."""
    count = 0
    level: list[object] = list(variables.values())
    for _ in range(MOST_NESTED):
        count += len(level)
        if count > MOST_VALUES:
            raise refused_document(f"The variables hold more than {MOST_VALUES:,} values.")
        level = [part for value in level for part in _parts(value)]
        if not level:
            return
    raise refused_document(
        f"The variables are nested too deeply: at most {MOST_NESTED} values may lie within each other."
    )


def _parts(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
