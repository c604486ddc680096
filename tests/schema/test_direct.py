"""What is answered without ceremony is what GraphQL would have answered, mistakes included."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Sequence
from enum import Enum
from typing import Any
from unittest.mock import patch

import pytest
import strawberry
from strawberry import Info, Parent

from schema.build import Schema, build_schema
from schema.direct import DIRECT
from schema.execution import Execution
from schema.fields import field, stream


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


@strawberry.interface
class Thing:
    number: int

    @classmethod
    def is_type_of(cls, thing: Told, _info: object) -> bool:
        return bool(thing.name == cls.__name__)  # type: ignore[attr-defined]

    @classmethod
    def resolve_type(cls, thing: Told, _info: object, _abstract: object) -> str:
        return "Bag" if thing.name == "Lie" else str(thing.name)  # type: ignore[attr-defined]


@strawberry.type
class Box(Thing):
    words: list[str]
    parts: list[Part]

    @field(str)
    @staticmethod
    def seal(told: Parent[Told], info: Info[Any, None]) -> str:
        return f"{info.context['seal']}{told.number}"  # type: ignore[attr-defined]

    @field(str | None)
    @staticmethod
    def late(told: Parent[Told]) -> Awaitable[str] | None:
        return _late() if told.number > 1 else None  # type: ignore[attr-defined]

    @field(str)
    @staticmethod
    def named(info: Info[Any, None]) -> str:
        return info.field_name


@strawberry.type
class Bag(Thing):
    word: str


async def _late() -> str:
    await asyncio.sleep(0)
    return "late"


@strawberry.type
class Subscription:
    @stream(Thing)
    @staticmethod
    async def things() -> AsyncGenerator[Told]:
        yield Told(name="Box", number=1, words=["a", "b"], parts=PARTS)
        yield Told(name="Bag", number=2, word="w")
        yield Told(name="Box", number=3, words=None, parts=PARTS)
        yield Told(name="Nothing", number=4)
        yield Told(name="Bag", number="five", word=None)
        yield Told(name="Lie", number=6, word="w")


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


@pytest.mark.parametrize(
    "selected",
    [
        "number __typename",
        "n: number number ... on Box { parts { number } parts { colour word } }",
        "...F ...G ... on Bag { word }",
        "number @skip(if: $not) ... on Box @include(if: $not) { words }",
        "... on Box { words }",
        "... on Box { seal }",
        "... on Box { late }",
        "... on Box { named }",
        "... on Box { parts { broken } }",
    ],
)
@pytest.mark.parametrize("skipped", [True, False])
async def test_what_is_followed_is_told_as_with_all_ceremony(selected: str, skipped: bool) -> None:
    fragments = "fragment F on Thing { number } fragment G on Box { parts { ...H } } fragment H on Part { word }"
    used = fragments if "...F" in selected else ""
    taken = "($not: Boolean!)" if "$not" in selected else ""
    query = f"subscription {taken} {{ things {{ {selected} }} }} {used}"
    asked = {"variable_values": {"not": skipped} if taken else {}, "context_value": {"seal": "s"}}
    usual = strawberry.Schema(query=Query, subscription=Subscription, types=(Box, Bag))
    expected: list[Any] = [each async for each in await usual.subscribe(query, **asked)]  # type: ignore[arg-type]
    told: list[Any] = [each async for each in await _direct().stream(query, **asked)]  # type: ignore[arg-type]
    assert [each.data for each in told] == [each.data for each in expected]
    assert [_places(each) for each in told] == [_places(each) for each in expected]
    assert len(told) == 6


@pytest.mark.parametrize(
    ("selected", "is_direct"), [("number ... on Box { words seal late }", True), ("... on Box { named }", False)]
)
async def test_what_needs_no_ceremony_is_told_without(selected: str, is_direct: bool) -> None:
    schema = _direct()
    tree = schema.document(f"subscription {{ things {{ {selected} }} }}")
    assert tree is not None
    executor = Execution.build(schema._schema, tree, context_value={"seal": "s"})  # noqa: SLF001
    assert isinstance(executor, Execution)
    with patch.object(executor, "build_per_event_executor", wraps=executor.build_per_event_executor) as ceremony:
        executor.told(Told(name="Box", number=1, words=["a"], parts=PARTS))
    assert ceremony.called is not is_direct


def test_most_fields_of_the_schema_need_none() -> None:
    kinds = build_schema()._schema.type_map  # noqa: SLF001 - Strawberry has no other way to it
    steps: Any = kinds["OperationStep"]
    progress: Any = kinds["OperationProgress"]
    assert all(each.extensions[DIRECT].leaf for each in steps.fields.values())
    assert progress.fields["steps"].extensions[DIRECT].kind is steps


def _direct() -> Schema:
    return Schema(query=Query, subscription=Subscription, types=(Box, Bag))


def _places(result: Any) -> list[object]:
    return sorted((error.path for error in result.errors or ()), key=str)
