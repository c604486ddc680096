"""The served schema fulfils the frontend contract; it may contain additional types and fields."""

from __future__ import annotations

from pathlib import Path

import pytest
from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    build_schema,
    is_introspection_type,
    is_required_input_field,
    is_specified_scalar_type,
    print_ast,
)

from schema.__main__ import SNAPSHOT, main

CONTRACT = build_schema((Path(__file__).parent / "contract.graphql").read_text())
SERVED = build_schema(SNAPSHOT.read_text())


def names(schema: GraphQLSchema) -> list[str]:
    """Return the sorted names of the types that the schema defines."""
    return sorted(
        name
        for name, type_ in schema.type_map.items()
        if not is_introspection_type(type_) and not is_specified_scalar_type(type_)
    )


def default_literal(value: GraphQLArgument | GraphQLInputField) -> str | None:
    """Return the default value as a GraphQL literal."""
    literal = value.ast_node and value.ast_node.default_value
    return print_ast(literal) if literal else None


def test_committed_schema_equals_the_served_schema() -> None:
    assert main(["--check"]) == 0


def test_serves_every_type_of_the_contract() -> None:
    assert set(names(SERVED)) >= set(names(CONTRACT))


@pytest.mark.parametrize("name", names(CONTRACT))
def test_type_equals_that_of_the_contract(name: str) -> None:
    served, promised = SERVED.type_map[name], CONTRACT.type_map[name]
    assert type(served) is type(promised)
    match served, promised:
        case GraphQLEnumType(), GraphQLEnumType():
            for enum_value, value in promised.values.items():
                assert served.values[enum_value].description == value.description, enum_value
        case GraphQLInputObjectType(), GraphQLInputObjectType():
            for name, value in promised.fields.items():
                assert str(served.fields[name].type) == str(value.type), name
                assert default_literal(served.fields[name]) == default_literal(value), name
            added = [value for name, value in served.fields.items() if name not in promised.fields]
            assert not any(is_required_input_field(value) for value in added)
        case ((GraphQLObjectType() | GraphQLInterfaceType()), (GraphQLObjectType() | GraphQLInterfaceType())):
            assert {each.name for each in served.interfaces} == {each.name for each in promised.interfaces}
            check_fields(served, promised)


def check_fields(
    served: GraphQLObjectType | GraphQLInterfaceType, promised: GraphQLObjectType | GraphQLInterfaceType
) -> None:
    """Check that the fields, their types, arguments and descriptions are those of the contract."""
    for key, promised_field in promised.fields.items():
        field = served.fields[key]
        assert str(field.type) == str(promised_field.type), key
        is_described_by_interface = promised_field.description is None
        assert is_described_by_interface or field.description == promised_field.description, key
        for argument, value in promised_field.args.items():
            assert str(field.args[argument].type) == str(value.type), (key, argument)
            assert default_literal(field.args[argument]) == default_literal(value), (key, argument)
