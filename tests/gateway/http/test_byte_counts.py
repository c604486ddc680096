"""The scalar ByteCount: an integer from 0 to 2^53 - 1 as a JSON number, in variables, literals and results."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from contracts.base import new_id, utc_now
from contracts.files import FilePage, UploadTarget
from tests.gateway.conftest import Execute
from tests.gateway.fakes import TOKEN, FakeServices, error_extensions, file

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
def sizes(services: FakeServices) -> list[int]:
    """The sizes that reach the files service."""
    sizes: list[int] = []

    def create(_: object, body: Any) -> UploadTarget:
        sizes.append(body["size"])
        return UploadTarget(id=new_id("upl"), url="/uploads/x", method="PUT", headers=(), expires_at=utc_now())

    services.handlers["files/create_upload"] = create
    return sizes


def literal(text: str) -> str:
    """Return a document with the text as the literal of the size."""
    new = f'{{name: "a.txt", contentType: "text/plain", size: {text}}}'
    return f"mutation {{ createUpload(input: {new}) {{ upload {{ id }} }} }}"


def assert_refused(response: Any, path: list[str]) -> None:
    """Check that the response refuses exactly the value at this path."""
    (error,) = response["errors"]
    assert error_extensions(error)["code"] == "BAD_USER_INPUT"
    assert [field_error["path"] for field_error in error_extensions(error)["fields"]] == [path], error


@pytest.mark.parametrize(("value", "count"), ACCEPTED)
async def test_accepts_whole_numbers_in_variables(
    execute: Execute, sizes: list[int], value: object, count: int
) -> None:
    new = {"name": "a.txt", "contentType": "text/plain", "size": value}
    assert "errors" not in await execute(CREATE, input=new)
    assert "errors" not in await execute(CREATE_SIZE, size=value)
    assert [(type(size), size) for size in sizes] == [(int, count)] * 2


@pytest.mark.parametrize("value", REFUSED, ids=lambda value: ascii(value)[:20])
async def test_refuses_other_values_in_variables_by_their_field(
    execute: Execute, sizes: list[int], value: object
) -> None:
    new = {"name": "a.txt", "contentType": "text/plain", "size": value}
    assert_refused(await execute(CREATE, input=new), ["input", "size"])
    assert_refused(await execute(CREATE_SIZE, size=value), ["input", "size"])
    assert sizes == []


@pytest.mark.parametrize(("text", "count"), ACCEPTED_LITERALS)
async def test_accepts_integer_literals(execute: Execute, sizes: list[int], text: str, count: int) -> None:
    assert "errors" not in await execute(literal(text))
    assert sizes == [count]


@pytest.mark.parametrize("text", REFUSED_LITERALS, ids=lambda text: text[:20])
async def test_refuses_other_literals_by_their_field(execute: Execute, sizes: list[int], text: str) -> None:
    assert_refused(await execute(literal(text)), ["input", "size"])
    assert sizes == []


async def test_error_message_states_the_allowed_range(execute: Execute) -> None:
    for response in (await execute(CREATE_SIZE, size=-1), await execute(literal("1.5"))):
        (field_error,) = error_extensions(response["errors"][0])["fields"]
        assert MESSAGE in field_error["message"]


async def test_sizes_above_two_gib_are_numbers_in_results(client: httpx.AsyncClient, services: FakeServices) -> None:
    large = file().model_copy(update={"size": 5 * GIB})
    services.handlers["files/list_files"] = lambda caller, body: FilePage(
        files=(large,), has_next_page=False, total_count=1
    )
    query = {"query": "{ viewer { files(first: 1) { nodes { size } } } }"}
    response = await client.post("/graphql", json=query, headers={"authorization": f"Bearer {TOKEN}"})
    assert response.json()["data"]["viewer"]["files"]["nodes"] == [{"size": 5 * GIB}], response.text
