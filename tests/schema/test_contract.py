"""What the frontend contract promises is served as it is promised. More may be served: ``git diff`` shows what."""

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
    return sorted(
        name
        for name, type_ in schema.type_map.items()
        if not is_introspection_type(type_) and not is_specified_scalar_type(type_)
    )


def default(value: GraphQLArgument | GraphQLInputField) -> str | None:
    literal = value.ast_node and value.ast_node.default_value
    return print_ast(literal) if literal else None


def test_the_committed_schema_is_what_the_code_serves() -> None:
    assert main(["--check"]) == 0


def test_every_type_of_the_contract_is_served() -> None:
    assert set(names(SERVED)) >= set(names(CONTRACT))


@pytest.mark.parametrize("name", names(CONTRACT))
def test_a_type_is_as_the_contract_has_it(name: str) -> None:
    served, promised = SERVED.type_map[name], CONTRACT.type_map[name]
    assert type(served) is type(promised)
    match served, promised:
        case GraphQLEnumType(), GraphQLEnumType():
            for word, value in promised.values.items():
                assert served.values[word].description == value.description, word
        case GraphQLInputObjectType(), GraphQLInputObjectType():
            for name, value in promised.fields.items():
                assert str(served.fields[name].type) == str(value.type), name
                assert default(served.fields[name]) == default(value), name
            added = [value for name, value in served.fields.items() if name not in promised.fields]
            assert not any(is_required_input_field(value) for value in added)
        case ((GraphQLObjectType() | GraphQLInterfaceType()), (GraphQLObjectType() | GraphQLInterfaceType())):
            assert {each.name for each in served.interfaces} == {each.name for each in promised.interfaces}
            assert_fields_are_as_promised(served, promised)


def assert_fields_are_as_promised(
    served: GraphQLObjectType | GraphQLInterfaceType, promised: GraphQLObjectType | GraphQLInterfaceType
) -> None:
    for key, as_promised in promised.fields.items():
        field = served.fields[key]
        assert str(field.type) == str(as_promised.type), key
        described_by_the_interface = as_promised.description is None
        assert described_by_the_interface or field.description == as_promised.description, key
        for argument, value in as_promised.args.items():
            assert str(field.args[argument].type) == str(value.type), (key, argument)
            assert default(field.args[argument]) == default(value), (key, argument)
