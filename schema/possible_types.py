"""The object types of each interface and union, in the form that Apollo Client calls ``possibleTypes``."""

from __future__ import annotations

from graphql import GraphQLSchema, is_abstract_type, is_introspection_type


def possible_types(schema: GraphQLSchema) -> dict[str, list[str]]:
    """Return the names of the possible object types by the name of each abstract type, both sorted.

    A normalized cache needs them to match a fragment on an interface; without them Apollo Client drops its fields.
    """
    abstract = [each for each in schema.type_map.values() if is_abstract_type(each) and not is_introspection_type(each)]
    return {
        each.name: sorted(one.name for one in schema.get_possible_types(each))
        for each in sorted(abstract, key=lambda each: each.name)
    }
