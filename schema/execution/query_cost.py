"""Cost analysis of GraphQL documents, and the limits of depth, aliases, directives, root fields and cost.

Fragments count as often as they are spread, but each is analyzed only once.
"""

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

from schema.errors import document_rejected

SINGLE_USE_MUTATIONS = frozenset(("login", "submitMfaCode", "switchTenant", "onboardUser"))
"""Mutations that a document may contain only once, so that one request is one password guess or one new account."""

_SCALAR_COST = 0.25
"""Cost of a scalar field; an object costs 1."""
_UPSTREAM_CALL_COST = 20
"""Cost of a call of Temporal or a service, in addition to the cost of the selection."""
_UPSTREAM_CALL_TYPES = frozenset(("Viewer", "Dashboard"))
"""Types whose fields each cause a call, in addition to the root types."""
_UPSTREAM_CALL_FIELDS = frozenset(
    (("Tenant", "operations"), ("Tenant", "operationStatistics"), ("OperationConnection", "totalCount"))
)
"""Fields of other types that each cause a call, as pairs of type and field name."""
_DEFAULT_LIST_SIZE = 5
"""Assumed number of items of a list without a ``first`` argument: steps, tenants, feature flags."""
_MAX_NESTING = 100
"""Limit of nested selection sets, including those of fragments; it protects Python's stack during the analysis."""
_INTROSPECTION_FIELDS = frozenset(("__schema", "__type"))
_INTROSPECTION_LIST_FIELDS = frozenset(("fields", "inputFields", "interfaces", "possibleTypes", "enumValues"))


class QueryLimits(NamedTuple):
    """Limits of a GraphQL document.

    ``aliases``, ``root_fields`` and ``directives`` limit the sum over all operations of the document, ``depth`` and
    ``introspection_depth`` each operation, and ``cost`` the executed operation.

    Attributes:
        bytes: length of the document in UTF-8.
        page: the largest ``first`` argument that is counted; the resolvers reject larger values.
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
    """The cost and size of a selection set.

    Attributes:
        depth: levels of nested fields.
        introspection_depth: levels of nested fields, including introspection.
        introspection_lists: levels of nested introspection lists, for example ``fields`` of types within ``fields``.
        aliases: number of aliases that differ from the field's name.
        directives: number of directives.
        fields: number of fields of the outermost selection set.
        base_cost: the cost that does not depend on the number of items of the enclosing list.
        per_item_cost: the additional cost for each item of the enclosing list.
        cost_by_type: base cost and per-item cost of selections that apply to only one object type.
        single_use_mutations: number of uses of each mutation of ``SINGLE_USE_MUTATIONS``.
    """

    depth: int = 0
    introspection_depth: int = 0
    introspection_lists: int = 0
    aliases: int = 0
    directives: int = 0
    fields: int = 0
    base_cost: float = 0
    per_item_cost: float = 0
    cost_by_type: dict[str, tuple[float, float]] = field(default_factory=dict)
    single_use_mutations: Counter[str] = field(default_factory=Counter)

    def add(self, other: SelectionCost) -> None:
        """Add the cost of another part of the same selection set."""
        self.depth = max(self.depth, other.depth)
        self.introspection_depth = max(self.introspection_depth, other.introspection_depth)
        self.introspection_lists = max(self.introspection_lists, other.introspection_lists)
        self.aliases += other.aliases
        self.directives += other.directives
        self.fields += other.fields
        self.base_cost += other.base_cost
        self.per_item_cost += other.per_item_cost
        for name, (base_cost, per_item_cost) in other.cost_by_type.items():
            before = self.cost_by_type.get(name, (0.0, 0.0))
            self.cost_by_type[name] = (before[0] + base_cost, before[1] + per_item_cost)
        self.single_use_mutations.update(other.single_use_mutations)

    def resolve_type_alternatives(self) -> None:
        """Add the cost of the most expensive object type: an object has exactly one type."""
        base_cost, per_item_cost = max(self.cost_by_type.values(), key=sum, default=(0.0, 0.0))
        self.base_cost += base_cost
        self.per_item_cost += per_item_cost
        self.cost_by_type = {}

    def restrict_to_type(self, name: str) -> None:
        """Count the whole cost only for objects of the named type."""
        self.resolve_type_alternatives()
        self.cost_by_type = {name: (self.base_cost, self.per_item_cost)}
        self.base_cost, self.per_item_cost = 0, 0


class CostAnalyzer:
    """Computes the cost of the operations of one document in time proportional to its tokens.

    Each fragment is analyzed once, no matter how often it is spread. If an analyzer is given variables, it may analyze
    only one operation, because the cost of a fragment depends on the operation's variables.

    Args:
        schema: the schema that the document queries.
        document: the syntax tree.
        limits: the limits of introspection and page size.
        introspection: whether introspection is allowed.
        variables: the values of the variables; None assumes the most expensive values.
    """

    def __init__(
        self,
        schema: GraphQLSchema,
        document: DocumentNode,
        limits: QueryLimits,
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
            node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)
        }
        self._root_types = {root.name for each in OperationType if (root := schema.get_root_type(each)) is not None}
        self._fragment_costs: dict[str, SelectionCost] = {}
        self._open_fragments: set[str] = set()
        self._nesting = 0
        self.depends_on_variables = False

    def operation_cost(self, operation: OperationDefinitionNode) -> SelectionCost:
        """Return the cost of an operation of the document.

        Raises:
            DocumentRejected: the operation is nested too deeply, or it uses introspection that is not allowed.
        """
        variables = operation.variable_definitions or ()
        self._defaults = {variable.variable.name.value: variable.default_value for variable in variables}
        cost = SelectionCost(directives=_count(operation.directives))
        cost.directives += sum(_count(variable.directives) for variable in variables)
        cost.add(self._selection_set(operation.selection_set, self._schema.get_root_type(operation.operation)))
        cost.resolve_type_alternatives()
        cost.base_cost += cost.per_item_cost * _DEFAULT_LIST_SIZE
        if operation.operation is not OperationType.MUTATION:
            cost.single_use_mutations.clear()
        return cost

    def _selection_set(self, selections: SelectionSetNode | None, parent: GraphQLNamedType | None) -> SelectionCost:
        cost = SelectionCost()
        if selections is None:
            return cost
        self._nesting += 1
        if self._nesting > _MAX_NESTING:
            raise document_rejected("The document is nested too deeply.")
        for selection in selections.selections:
            cost.add(self._selection(selection, parent))
        self._nesting -= 1
        return cost

    def _selection(self, selection: SelectionNode, parent: GraphQLNamedType | None) -> SelectionCost:
        if isinstance(selection, FieldNode):
            cost = self._field(selection, parent)
        else:
            cost, inner = SelectionCost(), parent
            if isinstance(selection, FragmentSpreadNode):
                fragment = self._fragments.get(selection.name.value)
                inner = self._schema.get_type(fragment.type_condition.name.value) if fragment else None
                cost.add(self._fragment(selection.name.value))
            elif isinstance(selection, InlineFragmentNode):
                condition = selection.type_condition
                inner = self._schema.get_type(condition.name.value) if condition else parent
                cost.add(self._selection_set(selection.selection_set, inner))
            if isinstance(parent, GraphQLInterfaceType) and isinstance(inner, GraphQLObjectType):
                cost.restrict_to_type(inner.name)
        cost.directives += _count(selection.directives)
        return cost

    def _fragment(self, name: str) -> SelectionCost:
        """Return the cost of a fragment; zero if it is undefined or spreads itself, which validation rejects."""
        fragment = self._fragments.get(name)
        if fragment is None or name in self._open_fragments:
            return SelectionCost()
        if name not in self._fragment_costs:
            self._open_fragments.add(name)
            parent = self._schema.get_type(fragment.type_condition.name.value)
            cost = self._selection_set(fragment.selection_set, parent)
            cost.directives += _count(fragment.directives)
            self._open_fragments.discard(name)
            self._fragment_costs[name] = cost
        return self._fragment_costs[name]

    def _field(self, node: FieldNode, parent: GraphQLNamedType | None) -> SelectionCost:
        name = node.name.value
        definition = _definition(parent, name)
        children = self._selection_set(node.selection_set, get_named_type(definition.type) if definition else None)
        children.resolve_type_alternatives()
        cost = SelectionCost(aliases=children.aliases, directives=children.directives, fields=1)
        if node.alias is not None and node.alias.value != name:
            cost.aliases += 1
        if name in SINGLE_USE_MUTATIONS:
            cost.single_use_mutations[name] = 1
        cost.introspection_depth = children.introspection_depth + 1
        cost.introspection_lists = children.introspection_lists + (name in _INTROSPECTION_LIST_FIELDS)
        if name in _INTROSPECTION_FIELDS:
            self._check_introspection(cost)
            return cost
        cost.depth = children.depth + 1
        if node.selection_set is None:
            cost.base_cost = _SCALAR_COST
            return cost
        size = self._list_size(node, definition)
        object_cost = 1 + children.base_cost + children.per_item_cost * (_DEFAULT_LIST_SIZE if size is None else size)
        if self._calls_upstream(parent, name):
            object_cost += _UPSTREAM_CALL_COST
        if definition is None or not is_list_type(get_nullable_type(definition.type)):
            cost.base_cost = object_cost
        elif size is None:
            cost.per_item_cost = object_cost
        else:
            cost.base_cost = object_cost * size
        return cost

    def _calls_upstream(self, parent: GraphQLNamedType | None, name: str) -> bool:
        """Return whether each selection of the field causes a call of Temporal or a service.

        Other fields are loaded in batches, with few calls for all items.
        """
        if parent is None or name == "viewer":  # the session is looked up once per request
            return False
        if (parent.name, name) in _UPSTREAM_CALL_FIELDS:
            return True
        return parent.name in _UPSTREAM_CALL_TYPES or parent.name in self._root_types

    def _check_introspection(self, cost: SelectionCost) -> None:
        """Check the cost of ``__schema`` or ``__type``, then reset its depth: introspection has separate limits."""
        if not self._introspection:
            raise document_rejected("Introspection is disabled.")
        if cost.introspection_lists > 1 or cost.introspection_depth > self._limits.introspection_depth:
            raise document_rejected("The introspection is nested too deeply.")
        cost.introspection_depth, cost.introspection_lists = 0, 0

    def _list_size(self, node: FieldNode, definition: GraphQLField | None) -> int | None:
        """Return the number of items that the ``first`` or ``ids`` argument requests; None without these arguments."""
        if definition is None:
            return None
        for name in ("first", "ids"):
            argument = definition.args.get(name)
            if argument is not None:
                provided = next((each for each in node.arguments or () if each.name.value == name), None)
                default = argument.default_value if isinstance(argument.default_value, int) else _DEFAULT_LIST_SIZE
                return max(1, min(self._limits.page, self._argument_size(provided, default)))
        return None

    def _argument_size(self, argument: ArgumentNode | None, default: int) -> int:
        value = argument.value if argument else None
        if isinstance(value, VariableNode):
            name = value.name.value
            self.depends_on_variables = True
            if self._variables is None:
                return self._limits.page
            if name in self._variables:
                return _variable_size(self._variables[name], default)
            value = self._defaults.get(name)
        if isinstance(value, ListValueNode):
            return len(value.values)
        if isinstance(value, IntValueNode):
            return int(value.value) if len(value.value) < 10 else self._limits.page
        return default


def violations(costs: Sequence[SelectionCost], limits: QueryLimits) -> Iterator[str]:
    """Yield a message for each limit, except the cost limit, that the operations of a document exceed."""
    if any(cost.depth > limits.depth for cost in costs):
        yield f"The document is nested too deeply: at most {limits.depth} levels of fields are allowed."
    sums = {
        "aliases": (sum(cost.aliases for cost in costs), limits.aliases),
        "root fields": (sum(cost.fields for cost in costs), limits.root_fields),
        "directives": (sum(cost.directives for cost in costs), limits.directives),
    }
    for label, (count, limit) in sums.items():
        if count > limit:
            yield f"The document has more than {limit} {label} after its fragments are expanded."
    uses: Counter[str] = Counter()
    for cost in costs:
        uses.update(cost.single_use_mutations)
    for name in sorted(uses):
        if uses[name] > 1:
            yield f"The document has {name} more than once."


def _definition(parent: GraphQLNamedType | None, name: str) -> GraphQLField | None:
    return parent.fields.get(name) if isinstance(parent, GraphQLObjectType | GraphQLInterfaceType) else None


def _variable_size(value: object, default: int) -> int:
    if isinstance(value, list):
        return len(value)
    return int(value) if isinstance(value, int | float) and abs(value) < 2**31 else default


def _count(directives: Sequence[DirectiveNode] | None) -> int:
    return len(directives or ())
