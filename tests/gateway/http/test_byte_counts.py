"""ByteCount: whole bytes as a JSON number from 0 to 2^53 - 1, in variables, literals and results."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from contracts.base import new_id, utc_now
from contracts.files import FilePage, UploadTarget
from tests.gateway.conftest import Ask
from tests.gateway.fakes import TOKEN, Services, facts, file

CREATE = "mutation ($input: CreateUploadInput!) { createUpload(input: $input) { upload { id } } }"
CREATE_SIZE = """
mutation ($size: ByteCount!) {
  createUpload(input: {name: "a.txt", contentType: "text/plain", size: $size}) { upload { id } }
}
"""
MESSAGE = "A ByteCount is a whole number from 0 to 9007199254740991."
GIB = 1024**3

ACCEPTED = [(0, 0), (1, 1), (1.0, 1), (1e3, 1000), (2**31, 2**31), (5 * GIB, 5 * GIB), (2**53 - 1, 2**53 - 1)]
REFUSED: list[object] = [-1, 1.5, 0.1, 1e300, 2**53, 2**64, 10**300, "5", "", True, False, [], [1], {}, None]
ACCEPTED_LITERALS = [("0", 0), ("-0", 0), ("2147483648", 2**31), (str(5 * GIB), 5 * GIB), (str(2**53 - 1), 2**53 - 1)]
REFUSED_LITERALS = [
    "-1", "1.0", "1.5", "1e3", str(2**53), "9" * 5_000, '"5"', '"""5"""', "true", "false", "[]", "{}", "FIVE", "null",
]  # fmt: skip


@pytest.fixture
def sizes(services: Services) -> list[int]:
    """What reaches the files service."""
    sizes: list[int] = []

    def create(_: object, body: Any) -> UploadTarget:
        sizes.append(body["size"])
        return UploadTarget(id=new_id("upl"), url="/uploads/x", method="PUT", headers=(), expires_at=utc_now())

    services.handlers["files/create_upload"] = create
    return sizes


def literal(text: str) -> str:
    new = f'{{name: "a.txt", contentType: "text/plain", size: {text}}}'
    return f"mutation {{ createUpload(input: {new}) {{ upload {{ id }} }} }}"


def assert_refused(answer: Any, path: list[str]) -> None:
    (error,) = answer["errors"]
    assert facts(error)["code"] == "BAD_USER_INPUT"
    assert [fault["path"] for fault in facts(error)["fields"]] == [path], error


@pytest.mark.parametrize(("value", "count"), ACCEPTED)
async def test_a_variable_is_taken_as_it_is(ask: Ask, sizes: list[int], value: object, count: int) -> None:
    new = {"name": "a.txt", "contentType": "text/plain", "size": value}
    assert "errors" not in await ask(CREATE, input=new)
    assert "errors" not in await ask(CREATE_SIZE, size=value)
    assert [(type(size), size) for size in sizes] == [(int, count)] * 2


@pytest.mark.parametrize("value", REFUSED, ids=lambda value: ascii(value)[:20])
async def test_a_variable_that_is_no_count_is_refused_by_its_field(ask: Ask, sizes: list[int], value: object) -> None:
    new = {"name": "a.txt", "contentType": "text/plain", "size": value}
    assert_refused(await ask(CREATE, input=new), ["input", "size"])
    assert_refused(await ask(CREATE_SIZE, size=value), ["input", "size"])
    assert sizes == []


@pytest.mark.parametrize(("text", "count"), ACCEPTED_LITERALS)
async def test_an_integer_literal_is_taken_as_it_is(ask: Ask, sizes: list[int], text: str, count: int) -> None:
    assert "errors" not in await ask(literal(text))
    assert sizes == [count]


@pytest.mark.parametrize("text", REFUSED_LITERALS, ids=lambda text: text[:20])
async def test_a_literal_that_is_no_count_is_refused_by_its_field(ask: Ask, sizes: list[int], text: str) -> None:
    assert_refused(await ask(literal(text)), ["input", "size"])
    assert sizes == []


async def test_what_is_wrong_is_stated(ask: Ask) -> None:
    for answer in (await ask(CREATE_SIZE, size=-1), await ask(literal("1.5"))):
        (fault,) = facts(answer["errors"][0])["fields"]
        assert MESSAGE in fault["message"]


async def test_a_size_above_two_gib_is_shown_as_a_number(client: httpx.AsyncClient, services: Services) -> None:
    large = file().model_copy(update={"size": 5 * GIB})
    services.handlers["files/list_files"] = lambda caller, body: FilePage(
        files=(large,), has_next_page=False, total_count=1
    )
    query = {"query": "{ viewer { files(first: 1) { nodes { size } } } }"}
    answer = await client.post("/graphql", json=query, headers={"authorization": f"Bearer {TOKEN}"})
    assert answer.json()["data"]["viewer"]["files"]["nodes"] == [{"size": 5 * GIB}], answer.text
