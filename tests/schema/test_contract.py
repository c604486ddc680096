"""What is served is what the frontend contract promises."""

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
    is_specified_scalar_type,
    print_ast,
)

from schema.__main__ import SNAPSHOT, main

CONTRACT = build_schema((Path(__file__).parent / "contract.graphql").read_text())
SERVED = build_schema(SNAPSHOT.read_text())

ADDED = {"RetryOperationPayload.sessionToken", "RetryOperationPayload.viewer"}
"""What we serve beyond the contract."""


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


def test_every_type_of_the_contract_is_served_and_no_other() -> None:
    assert set(names(SERVED)) == set(names(CONTRACT))


@pytest.mark.parametrize("name", names(SERVED))
def test_a_type_is_as_the_contract_has_it(name: str) -> None:
    served, promised = SERVED.type_map[name], CONTRACT.type_map[name]
    assert type(served) is type(promised)
    match served, promised:
        case GraphQLEnumType(), GraphQLEnumType():
            assert {key: value.description for key, value in served.values.items()} == {
                key: value.description for key, value in promised.values.items()
            }
        case GraphQLInputObjectType(), GraphQLInputObjectType():
            assert served.to_kwargs()["fields"].keys() == promised.to_kwargs()["fields"].keys()
            for field, value in served.fields.items():
                assert str(value.type) == str(promised.fields[field].type), field
                assert default(value) == default(promised.fields[field]), field
        case ((GraphQLObjectType() | GraphQLInterfaceType()), (GraphQLObjectType() | GraphQLInterfaceType())):
            assert {each.name for each in served.interfaces} == {each.name for each in promised.interfaces}
            assert_fields_are_promised(name, served, promised)


def assert_fields_are_promised(
    name: str, served: GraphQLObjectType | GraphQLInterfaceType, promised: GraphQLObjectType | GraphQLInterfaceType
) -> None:
    added = {key for key in served.fields if f"{name}.{key}" in ADDED}
    assert served.fields.keys() - added == promised.fields.keys()
    for key in served.fields.keys() - added:
        field = served.fields[key]
        as_promised = promised.fields[key]
        assert str(field.type) == str(as_promised.type), key
        described_by_the_interface = as_promised.description is None
        assert described_by_the_interface or field.description == as_promised.description, key
        assert field.args.keys() == as_promised.args.keys(), key
        for argument, value in field.args.items():
            assert str(value.type) == str(as_promised.args[argument].type), (key, argument)
            assert default(value) == default(as_promised.args[argument]), (key, argument)
