"""The object types of each interface and union, in the ``possibleTypes`` format of Apollo Client."""

from __future__ import annotations

from graphql import GraphQLSchema, is_abstract_type, is_introspection_type


def possible_types(schema: GraphQLSchema) -> dict[str, list[str]]:
    """Return the sorted names of the object types of each interface and union, by its name.

    A normalized cache needs the names to match fragments on interfaces; without them Apollo Client ignores the
    fragments' fields.
    """
    abstract = [type_ for type_ in schema.type_map.values() if is_abstract_type(type_)]
    served = sorted((type_ for type_ in abstract if not is_introspection_type(type_)), key=lambda type_: type_.name)
    return {type_.name: sorted(each.name for each in schema.get_possible_types(type_)) for type_ in served}
