"""A cache of parsed GraphQL documents: each document is parsed, validated and its cost computed once."""

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
from graphql.validation import ASTValidationRule, OverlappingFieldsCanBeMergedRule, ValidationContext
from graphql.validation.validate import ValidationAbortedError
from strawberry.schema.validation_rules.maybe_null import MaybeNullValidationRule
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule

from schema.errors import document_rejected
from schema.execution.query_cost import CostAnalyzer, QueryLimits, violations

MAX_CACHED_DOCUMENTS = 1_000
MAX_CACHED_TOKENS = 50_000
"""Limit of the tokens of all cached documents together. A token and its syntax node take about 600 bytes."""
MAX_VALIDATION_ERRORS = 20
"""Number of errors in one document after which validation stops."""
MAX_VARIABLE_VALUES = 1_000
"""Limit of the values in the variables of one request, including nested values."""
MAX_VARIABLE_DEPTH = 32
"""Limit of the nesting of lists and objects in the variables."""

_MAX_FIELD_COMPARISONS = 30_000
"""Limit of the comparisons of fields with the same response name. Documents with colocated fragments need hundreds."""


class ParsedDocument(NamedTuple):
    """A document with the results of its validation and cost analysis.

    Attributes:
        tree: the syntax tree.
        tokens: the number of lexical tokens.
        errors: the validation errors; a document with errors must not be executed.
        max_costs: the cost of each operation by its name, with the most expensive variables.
        cost_depends_on_variables: True if other variables can make an operation cheaper.
    """

    tree: DocumentNode
    tokens: int
    errors: tuple[GraphQLError, ...]
    max_costs: Mapping[str | None, float]
    cost_depends_on_variables: bool


class DocumentCache:
    """An LRU cache of valid documents, shared by all requests of a process.

    Args:
        schema: the schema against which documents are validated.
        introspection: whether documents may query the schema itself.
        suggestions: whether error messages suggest names of the schema for misspelled names.
        limits: size and cost limits of a document.
    """

    def __init__(
        self, schema: GraphQLSchema, *, introspection: bool, suggestions: bool, limits: QueryLimits | None = None
    ) -> None:
        self.schema = schema
        self._introspection = introspection
        self._suggestions = suggestions
        self._limits = limits or QueryLimits()
        self._documents: OrderedDict[str, ParsedDocument] = OrderedDict()
        self._cached_tokens = 0

    def parse(self, text: str) -> ParsedDocument:
        """Return the parsed document, with its validation errors if it is not valid.

        Raises:
            DocumentRejected: the document exceeds a limit other than the cost limit.
            GraphQLSyntaxError: the text is not a GraphQL document.
        """
        document = self._documents.get(text)
        if document is not None:
            self._documents.move_to_end(text)
            return document
        document = self._parse(text)
        if not document.errors:
            self._store(text, document)
        return document

    def cached(self) -> Iterable[ParsedDocument]:
        """Return the cached documents, least recently used first."""
        return self._documents.values()

    def parse_or_none(self, text: str | None) -> DocumentNode | None:
        """Return the syntax tree, or None if the document cannot be parsed; its execution then reports the error."""
        try:
            return self.parse(text or "").tree
        except GraphQLError:
            return None

    def check(self, text: str, variables: Mapping[str, object] | None, operation_name: str | None) -> ParsedDocument:
        """Return the parsed document after checking the variables and the cost of the operation against the limits.

        Raises:
            DocumentRejected: the document, the variables, or the cost of the operation exceed a limit.
            GraphQLSyntaxError: the text is not a GraphQL document.
        """
        document = self.parse(text)
        values = variables or {}
        _check_variables(values)
        name = operation_name if operation_name is not None else next(iter(document.max_costs), None)
        cost = document.max_costs.get(name, 0)
        if cost > self._limits.cost and document.cost_depends_on_variables:
            cost = self._cost_with(values, document.tree, name)
        if cost > self._limits.cost:
            amount = f"{cost:,.0f}" if cost < 1e9 else "more than 1,000,000,000"
            raise document_rejected(
                f"The operation would cost {amount}, and the limit is {self._limits.cost:,.0f}: request less data."
            )
        return document

    def _parse(self, text: str) -> ParsedDocument:
        if len(text) > self._limits.bytes or len(text.encode(errors="surrogatepass")) > self._limits.bytes:
            raise document_rejected(f"The document is longer than {self._limits.bytes:,} bytes.")
        tokens = self._count_tokens(text)
        try:
            tree = parse(text)
            operations = [node for node in tree.definitions if isinstance(node, OperationDefinitionNode)]
            analyzer = CostAnalyzer(self.schema, tree, self._limits, introspection=self._introspection)
            costs = [analyzer.operation_cost(node) for node in operations]
            if violation := next(violations(costs, self._limits), None):
                raise document_rejected(violation)
            errors = self._validate(tree)
        except RecursionError as error:
            raise document_rejected("The document is nested too deeply.") from error
        max_costs = {_name(node): cost.base_cost for node, cost in zip(operations, costs, strict=True)}
        return ParsedDocument(tree, tokens, tuple(errors), max_costs, analyzer.depends_on_variables)

    def _count_tokens(self, text: str) -> int:
        """Return the number of tokens; raise DocumentRejected at the first token beyond the limit."""
        lexer, tokens = Lexer(Source(text)), 0
        while lexer.advance().kind is not TokenKind.EOF:
            tokens += 1
            if tokens > self._limits.tokens:
                raise document_rejected(f"The document has more than {self._limits.tokens:,} tokens.")
        return tokens

    def _validate(self, tree: DocumentNode) -> list[GraphQLError]:
        errors = validate(
            self.schema, tree, _RULES, max_errors=MAX_VALIDATION_ERRORS, hide_suggestions=not self._suggestions
        )
        return [_to_client_error(error) for error in errors]

    def _cost_with(self, variables: Mapping[str, object], tree: DocumentNode, name: str | None) -> float:
        analyzer = CostAnalyzer(self.schema, tree, self._limits, introspection=self._introspection, variables=variables)
        return next(
            analyzer.operation_cost(node).base_cost
            for node in tree.definitions
            if isinstance(node, OperationDefinitionNode) and _name(node) == name
        )

    def _store(self, text: str, document: ParsedDocument) -> None:
        self._documents[text] = document
        self._cached_tokens += document.tokens
        while len(self._documents) > MAX_CACHED_DOCUMENTS or self._cached_tokens > MAX_CACHED_TOKENS:
            _, evicted = self._documents.popitem(last=False)
            self._cached_tokens -= evicted.tokens


class _BoundedOverlapRule(OverlappingFieldsCanBeMergedRule):
    """OverlappingFieldsCanBeMergedRule with a lower limit of comparisons.

    The limit of graphql-core is reached only after a third of a second.
    """

    def __init__(self, context: ValidationContext) -> None:
        super().__init__(context)
        self.rule_context.remaining_complexity_budget = _MAX_FIELD_COMPARISONS


_RULES: tuple[type[ASTValidationRule], ...] = (
    *(_BoundedOverlapRule if rule is OverlappingFieldsCanBeMergedRule else rule for rule in specified_rules),
    MaybeNullValidationRule,
    OneOfInputValidationRule,
)


def _name(operation: OperationDefinitionNode) -> str | None:
    return operation.name.value if operation.name else None


def _to_client_error(error: GraphQLError) -> GraphQLError:
    if not isinstance(error, ValidationAbortedError):
        # graphql-core wraps the ValueError that Python raises for an integer of more than 4,300 digits.
        is_too_long = error.original_error is not None and not isinstance(error.original_error, GraphQLError)
        return GraphQLError("A value in the document is too long.", nodes=error.nodes) if is_too_long else error
    if error.message.startswith("Too many"):
        return document_rejected(f"The document has more than {MAX_VALIDATION_ERRORS} errors; only some are listed.")
    return document_rejected("The document selects the same fields too many times.")


def _check_variables(variables: Mapping[str, object]) -> None:
    """Raise DocumentRejected if the variables hold too many values or are nested too deeply."""
    count = 0
    level: list[object] = list(variables.values())
    for _ in range(MAX_VARIABLE_DEPTH):
        count += len(level)
        if count > MAX_VARIABLE_VALUES:
            raise document_rejected(f"The variables hold more than {MAX_VARIABLE_VALUES:,} values.")
        level = [child for value in level for child in _children(value)]
        if not level:
            return
    raise document_rejected(
        f"The variables are nested too deeply: at most {MAX_VARIABLE_DEPTH} levels of lists and objects are allowed."
    )


def _children(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
