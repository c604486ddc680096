"""What a document asks for once its fragments are expanded, counted without expanding them, and how much it may ask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from graphql import (
    ArgumentNode,
    DirectiveNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    ListValueNode,
    OperationDefinitionNode,
    OperationType,
    SelectionNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    get_named_type,
    get_nullable_type,
    is_list_type,
)

from schema.errors import refused_document

ONCE = frozenset(("login", "submitMfaCode", "switchTenant", "onboardUser"))
"""Mutations that a document may hold once: many of them in one request would be many guesses, or many accounts."""

_LEAF = 0.25
"""A scalar's part of what an object costs to resolve."""
_UPSTREAM_CALL = 20
"""The cost of a call of Temporal or a service, in addition to that of the selection."""
_CALLING_TYPES = frozenset(("Viewer", "Dashboard"))
"""Types whose fields each cause a call, in addition to the root types."""
_CALLING_FIELDS = frozenset(
    (("Tenant", "operations"), ("Tenant", "operationStatistics"), ("OperationConnection", "totalCount"))
)
"""Further fields that each cause a call."""
_UNSIZED = 5
"""How many a list is taken to hold that has no ``first``: steps, tenants, feature flags."""
_DEEPEST = 100
"""Selections and fragments within each other, beyond which no limit can hold and Python's stack would end."""
_INTROSPECTION = frozenset(("__schema", "__type"))
_LISTINGS = frozenset(("fields", "inputFields", "interfaces", "possibleTypes", "enumValues"))


class Limits(NamedTuple):
    """The most of each, over all operations of a document; ``cost`` is that of the operation that is carried out.

    ``page``: the largest ``first`` that is counted; the resolvers refuse larger ones by name.
    """

    bytes: int = 15_000
    tokens: int = 1_000
    depth: int = 12
    introspection_depth: int = 20
    aliases: int = 15
    root_fields: int = 20
    directives: int = 50
    cost: float = 5_000
    page: int = 100


@dataclass(slots=True)
class SelectionCost:
    """What a set of selections comes to. What it costs is ``own``, and ``each`` for each item of its parent's page;
    ``by_type`` has both of what is selected for one type of parent only.

    ``depth`` and ``introspection_depth`` count fields within fields, ``listings`` the lists of a type's parts within
    each other.
    """

    depth: int = 0
    introspection_depth: int = 0
    listings: int = 0
    aliases: int = 0
    directives: int = 0
    fields: int = 0
    own: float = 0
    each: float = 0
    by_type: dict[str, tuple[float, float]] = field(default_factory=dict)
    once: Counter[str] = field(default_factory=Counter)

    def add(self, other: SelectionCost) -> None:
        """Another part of the same set."""
        self.depth = max(self.depth, other.depth)
        self.introspection_depth = max(self.introspection_depth, other.introspection_depth)
        self.listings = max(self.listings, other.listings)
        self.aliases += other.aliases
        self.directives += other.directives
        self.fields += other.fields
        self.own += other.own
        self.each += other.each
        for name, (own, each) in other.by_type.items():
            before = self.by_type.get(name, (0.0, 0.0))
            self.by_type[name] = (before[0] + own, before[1] + each)
        self.once.update(other.once)

    def settle(self) -> None:
        """Count the dearest of the types that the parent may have: it has one."""
        own, each = max(self.by_type.values(), key=sum, default=(0.0, 0.0))
        self.own += own
        self.each += each
        self.by_type = {}

    def only_for(self, name: str) -> None:
        """It is of parents of this type alone."""
        self.settle()
        self.by_type = {name: (self.own, self.each)}
        self.own, self.each = 0, 0


class CostAnalyzer:
    """Weighs one document, in time that grows with its tokens alone: each fragment is weighed once, however often it is
    spread. ``variables`` None stands for the worst that may come.

    Raises BAD_USER_INPUT for what is nested beyond all measure, and for introspection where that is off.
    """

    def __init__(
        self,
        schema: GraphQLSchema,
        document: DocumentNode,
        limits: Limits,
        *,
        introspection: bool,
        variables: Mapping[str, object] | None = None,
    ) -> None:
        self._schema = schema
        self._limits = limits
        self._introspection = introspection
        self._variables = variables
        self._defaults: Mapping[str, ValueNode | None] = {}
        self._fragments = {
            each.name.value: each for each in document.definitions if isinstance(each, FragmentDefinitionNode)
        }
        self._root_types = {root.name for each in OperationType if (root := schema.get_root_type(each)) is not None}
        self._weighed: dict[str, SelectionCost] = {}
        self._entered: set[str] = set()
        self._level = 0
        self.depends_on_variables = False

    def operation(self, operation: OperationDefinitionNode) -> SelectionCost:
        """All of it. What fragments cost may depend on its variables, so scales weigh only one operation with them."""
        self._defaults = {each.variable.name.value: each.default_value for each in operation.variable_definitions or ()}
        weight = SelectionCost(directives=len(operation.directives or ()))
        weight.directives += sum(len(each.directives or ()) for each in operation.variable_definitions or ())
        weight.add(self._set(operation.selection_set, self._schema.get_root_type(operation.operation)))
        weight.settle()
        weight.own += weight.each * _UNSIZED
        if operation.operation is not OperationType.MUTATION:
            weight.once.clear()
        return weight

    def _set(self, selections: SelectionSetNode | None, parent: GraphQLNamedType | None) -> SelectionCost:
        weight = SelectionCost()
        if selections is None:
            return weight
        self._level += 1
        if self._level > _DEEPEST:
            raise refused_document("The document is nested too deeply.")
        for selection in selections.selections:
            weight.add(self._selection(selection, parent))
        self._level -= 1
        return weight

    def _selection(self, selection: SelectionNode, parent: GraphQLNamedType | None) -> SelectionCost:
        if isinstance(selection, FieldNode):
            weight = self._field(selection, parent)
        else:
            weight, inner = SelectionCost(), parent
            if isinstance(selection, FragmentSpreadNode):
                fragment = self._fragments.get(selection.name.value)
                inner = self._schema.get_type(fragment.type_condition.name.value) if fragment else None
                weight.add(self._fragment(selection.name.value))
            elif isinstance(selection, InlineFragmentNode):
                condition = selection.type_condition
                inner = self._schema.get_type(condition.name.value) if condition else parent
                weight.add(self._set(selection.selection_set, inner))
            if isinstance(parent, GraphQLInterfaceType) and isinstance(inner, GraphQLObjectType):
                weight.only_for(inner.name)
        weight.directives += _count(selection.directives)
        return weight

    def _fragment(self, name: str) -> SelectionCost:
        """Nothing for one that is missing or that spreads itself, which no valid document holds."""
        fragment = self._fragments.get(name)
        if fragment is None or name in self._entered:
            return SelectionCost()
        if name not in self._weighed:
            self._entered.add(name)
            weight = self._set(fragment.selection_set, self._schema.get_type(fragment.type_condition.name.value))
            weight.directives += _count(fragment.directives)
            self._entered.discard(name)
            self._weighed[name] = weight
        return self._weighed[name]

    def _field(self, node: FieldNode, parent: GraphQLNamedType | None) -> SelectionCost:
        name = node.name.value
        definition = _definition(parent, name)
        within = self._set(node.selection_set, get_named_type(definition.type) if definition else None)
        within.settle()
        weight = SelectionCost(aliases=within.aliases, directives=within.directives, fields=1)
        if node.alias is not None and node.alias.value != name:
            weight.aliases += 1
        if name in ONCE:
            weight.once[name] = 1
        weight.introspection_depth = within.introspection_depth + 1
        weight.listings = within.listings + (name in _LISTINGS)
        if name in _INTROSPECTION:
            self._allow_introspection(weight)
            return weight
        weight.depth = within.depth + 1
        if node.selection_set is None:
            weight.own = _LEAF
            return weight
        size = self._size(node, definition)
        cost = 1 + within.own + within.each * (_UNSIZED if size is None else size)
        if self._calls_upstream(parent, name):
            cost += _UPSTREAM_CALL
        if definition is None or not is_list_type(get_nullable_type(definition.type)):
            weight.own = cost
        elif size is None:
            weight.each = cost
        else:
            weight.own = cost * size
        return weight

    def _calls_upstream(self, parent: GraphQLNamedType | None, name: str) -> bool:
        """Whether the field causes a call of Temporal or a service, for each time it is selected and for each item.

        Fields of other objects are loaded in batches, in few calls.
        """
        if parent is None or name == "viewer":  # the session is looked up once a request
            return False
        if (parent.name, name) in _CALLING_FIELDS:
            return True
        return parent.name in _CALLING_TYPES or parent.name in self._root_types

    def _allow_introspection(self, weight: SelectionCost) -> None:
        """At the field that begins it. Within are limits of their own, for an explorer asks for much at once."""
        if not self._introspection:
            raise refused_document("Introspection is off here.")
        if weight.listings > 1 or weight.introspection_depth > self._limits.introspection_depth:
            raise refused_document("The introspection is nested too deeply.")
        weight.introspection_depth, weight.listings = 0, 0

    def _size(self, node: FieldNode, definition: GraphQLField | None) -> int | None:
        """How many items it asks for; None where it does not say."""
        if definition is None:
            return None
        for name in ("first", "ids"):
            argument = definition.args.get(name)
            if argument is not None:
                given = next((each for each in node.arguments or () if each.name.value == name), None)
                default = argument.default_value if isinstance(argument.default_value, int) else _UNSIZED
                return max(1, min(self._limits.page, self._given_size(given, default)))
        return None

    def _given_size(self, argument: ArgumentNode | None, default: int) -> int:
        value = argument.value if argument else None
        if isinstance(value, VariableNode):
            name = value.name.value
            self.depends_on_variables = True
            if self._variables is None:
                return self._limits.page
            if name in self._variables:
                return _size_of(self._variables[name], default)
            value = self._defaults.get(name)
        if isinstance(value, ListValueNode):
            return len(value.values)
        if isinstance(value, IntValueNode):
            return int(value.value) if len(value.value) < 10 else self._limits.page
        return default


def violations(weights: Sequence[SelectionCost], limits: Limits) -> Iterator[str]:
    """What the operations of a document have too much of, in words. What they cost is not looked at here."""
    if any(weight.depth > limits.depth for weight in weights):
        yield f"The document is nested too deeply: at most {limits.depth} fields may lie within each other."
    sums = {
        "aliases": (sum(weight.aliases for weight in weights), limits.aliases),
        "fields at its root": (sum(weight.fields for weight in weights), limits.root_fields),
        "directives": (sum(weight.directives for weight in weights), limits.directives),
    }
    for what, (found, most) in sums.items():
        if found > most:
            yield f"The document has more than {most} {what}, its fragments expanded."
    once: Counter[str] = Counter()
    for weight in weights:
        once.update(weight.once)
    for name in sorted(once):
        if once[name] > 1:
            yield f"The document has {name} more than once."


def _definition(parent: GraphQLNamedType | None, name: str) -> GraphQLField | None:
    return parent.fields.get(name) if isinstance(parent, GraphQLObjectType | GraphQLInterfaceType) else None


def _size_of(value: object, default: int) -> int:
    if isinstance(value, list):
        return len(value)
    return int(value) if isinstance(value, int | float) and abs(value) < 2**31 else default


def _count(directives: Sequence[DirectiveNode] | None) -> int:
    return len(directives or ())
