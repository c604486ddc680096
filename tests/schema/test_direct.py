"""What is answered without ceremony is what GraphQL would have answered, mistakes included."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

import pytest
import strawberry
from strawberry import Info, Parent

from schema.build import Schema, build_schema
from schema.direct import DIRECT, make_direct
from schema.documents import Documents
from schema.fields import field


@strawberry.enum
class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Told:
    """As resolvers return it: no GraphQL type itself."""

    def __init__(self, **facts: object) -> None:
        self.__dict__.update(facts)

    @property
    def broken(self) -> int:
        raise RuntimeError("broken")


@strawberry.type
class Part:
    number: int
    colour: Colour
    word: str | None
    broken: int | None


@strawberry.type
class Whole:
    parts: list[Part]
    maybe: list[Part] | None
    holes: list[Part | None]
    one: Part
    none: Part | None
    words: list[str]
    number: int

    @field(int)
    @staticmethod
    def doubled(told: Parent[Told]) -> int:
        return 2 * told.number  # type: ignore[attr-defined, no-any-return]

    @field(str)
    @staticmethod
    async def path(told: Parent[Told], info: Info[Any, None]) -> str:
        return f"{info.field_name} of {len(told.parts)}"  # type: ignore[attr-defined]


PARTS = [Told(number=n, colour=Colour.BLUE, word=None if n else "zero") for n in range(3)]
FACTS = {
    "parts": PARTS,
    "maybe": None,
    "holes": [PARTS[0], None],
    "one": PARTS[1],
    "none": None,
    "words": ["a"],
    "number": 7,
}


@strawberry.type
class Query:
    @field(Whole)
    @staticmethod
    def whole() -> Told:
        return Told(**FACTS)

    @field(list[Whole])
    @staticmethod
    async def strange() -> Sequence[Told]:
        return [
            Told(**FACTS | {"number": "seven"}),
            Told(**FACTS | {"parts": [PARTS[0], Told(number=None, colour="green", word=1)]}),
            Told(**FACTS | {"parts": None, "one": None}),
            Told(number=1),
        ]


@pytest.mark.parametrize(
    "selected",
    [
        "number parts { number colour word }",
        "again: number parts { n: number colour c: colour } parts { word }",
        "maybe { number } none { word } one { number colour word __typename }",
        "holes { number } words doubled path __typename",
        "parts { number broken } one { broken }",
        "parts { ...F } ... on Whole { number }",
        "parts @include(if: true) { number @skip(if: true) word }",
    ],
)
@pytest.mark.parametrize("root", ["whole", "strange"])
async def test_the_answer_is_the_same_as_with_all_ceremony(root: str, selected: str) -> None:
    fragment = " fragment F on Part { number }" if "...F" in selected else ""
    query = f"{{ {root} {{ {selected} }} }}{fragment}"
    usual = await strawberry.Schema(query=Query).execute(query)
    direct = await _direct().execute(query)
    assert direct.data == usual.data
    assert _places(direct) == _places(usual)


def test_most_fields_of_the_schema_need_none() -> None:
    kinds = build_schema()._schema.type_map  # noqa: SLF001 - Strawberry has no other way to it
    steps: Any = kinds["OperationStep"]
    progress: Any = kinds["OperationProgress"]
    assert all(each.extensions[DIRECT].write for each in steps.fields.values())
    assert progress.fields["steps"].extensions[DIRECT].kind is steps


def _direct() -> Schema:
    schema = Schema(query=Query)
    graphql_schema = schema._schema  # noqa: SLF001
    make_direct(graphql_schema)
    schema.documents = Documents(graphql_schema, introspection=True, suggestions=True)
    return schema


def _places(result: Any) -> list[object]:
    return sorted((error.path for error in result.errors or ()), key=str)
