"""Every kind of value that a client sends: the standard that governs it, what is accepted and kept, and what is refused
with which words. A value reaches the service, or comes back, in the form that the table names.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from contracts.auth import Credentials, VerifiedCredentials
from contracts.base import new_id, utc_now
from contracts.callers import Caller
from contracts.errors import InvalidCredentials
from contracts.files import HttpHeader, UploadTarget
from contracts.users import Preferences
from tests.gateway.conftest import Ask
from tests.gateway.fakes import Services, facts
from tests.gateway.http.input_examples import EMPTY, KINDS, ONBOARD, Kind, direction


def examples(of: str) -> list[Any]:
    return [
        pytest.param(kind, value, outcome, id=f"{name}-{ascii(value)[:40]}")
        for name, kind in KINDS.items()
        for value, outcome in getattr(kind, of).items()
    ]


@pytest.fixture
def kept(services: Services) -> Services:
    """Services that take whatever they are given."""

    def verify(_: Caller, body: Any) -> VerifiedCredentials:
        Credentials.model_validate(body)
        raise InvalidCredentials

    def create(_: Caller, __: Any) -> UploadTarget:
        headers = (HttpHeader(name="Content-Type", value="text/plain"),)
        return UploadTarget(id=new_id("upl"), url="/uploads/x", method="PUT", headers=headers, expires_at=utc_now())

    services.handlers["auth/verify_credentials"] = verify
    services.handlers["files/create_upload"] = create
    services.handlers["users/update_preferences"] = lambda caller, body: Preferences()
    return services


@pytest.mark.parametrize(("kind", "value", "keeps"), examples("accepted"))
async def test_a_value_is_kept_as_its_standard_says(
    ask: Ask, kept: Services, kind: Kind, value: object, keeps: object
) -> None:
    answer = await ask(kind.document, input={**kind.input, kind.field: value})

    codes = {error["extensions"]["code"] for error in answer.get("errors", ())}
    assert codes <= {"INVALID_CREDENTIALS"}, answer
    if kind.keeps is not None:
        verb, name = kind.keeps
        (body,) = [body for called, _, body in kept.calls if called == verb]
        assert body[name] == keeps


@pytest.mark.parametrize(("kind", "value", "message"), examples("refused"))
async def test_a_value_is_refused_by_its_path_with_what_is_wrong(
    ask: Ask, kept: Services, kind: Kind, value: object, message: str | None
) -> None:
    answer = await ask(kind.document, input={**kind.input, kind.field: value})

    (error,) = answer["errors"]
    assert facts(error)["code"] == "BAD_USER_INPUT"
    (fault,) = facts(error)["fields"]
    assert fault["path"] == ["input", kind.field]
    if message is not None:
        assert fault["message"] == error["message"] == message
    assert not {verb for verb, _, _ in kept.calls} & {"auth/verify_credentials", "files/create_upload"}


async def test_all_faults_of_an_input_are_reported_at_once(ask: Ask) -> None:
    answer = await ask(ONBOARD, input={"email": "a,b@", "name": "\u202e", "password": "short"})

    (error,) = answer["errors"]
    assert {tuple(each["path"]): each["message"] for each in facts(error)["fields"]} == {
        ("input", "email"): "This is not an e-mail address.",
        ("input", "name"): direction("U+202E"),
        ("input", "password"): "This is too short: at least 8.",
    }


@pytest.mark.parametrize("list_", ["files", "operations"])
@pytest.mark.parametrize(
    ("arguments", "refused"),
    [
        ("", None),
        ("(first: 0)", None),
        ("(first: 100)", None),
        ("(first: null, after: null)", None),
        ("(first: -1)", ("first", "This must be 0 or more.")),
        ("(first: 101)", ("first", "This must be 100 or less.")),
        ("(first: 1.0)", ("first", None)),
        ('(first: "1")', ("first", None)),
        ("(first: 2147483648)", ("first", None)),
        ('(after: "")', ("after", EMPTY)),
        ('(after: "AAAA")', ("after", "This cursor is not one of ours.")),
        ('(after: "é ")', ("after", "This cursor is not one of ours.")),
        (f'(after: "{"x" * 501}")', ("after", "This is too long: at most 500.")),
        ("(last: 1)", ("last", None)),
    ],
)
async def test_relay_parameters(ask: Ask, list_: str, arguments: str, refused: tuple[str, str | None] | None) -> None:
    answer = await ask(f"{{ viewer {{ {list_}{arguments} {{ nodes {{ id }} pageInfo {{ hasNextPage }} }} }} }}")

    if refused is None:
        assert "errors" not in answer, answer
        return
    (error,) = answer["errors"]
    assert facts(error)["code"] == "BAD_USER_INPUT"
    if refused[0] != "last":  # GraphQL itself does not know the argument
        (fault,) = facts(error)["fields"]
        assert fault["path"] == [refused[0]]
        assert refused[1] in (None, fault["message"])


OBJECT = "must be an object or null"
QUERY: dict[str, Any] = {"query": "{ __typename }"}
NAMED_QUERY: dict[str, Any] = {"query": "query a { __typename }"}
BY_POST: dict[str, tuple[dict[str, object], str]] = {
    "a query that is a number": ({"query": 5}, "`query` must be a string or null"),
    "a query that is a list": ({"query": []}, "`query` must be a string or null"),
    "no query": ({}, "The request has no query."),
    "null as query": ({"query": None}, "The request has no query."),
    "an empty query": ({"query": ""}, "The request has no query."),
    "variables that are text": (QUERY | {"variables": "{}"}, OBJECT),
    "variables that are a list": (QUERY | {"variables": []}, OBJECT),
    "variables that are false": (QUERY | {"variables": False}, OBJECT),
    "extensions that are text": (QUERY | {"extensions": "{}"}, OBJECT),
    "extensions that are a list": (QUERY | {"extensions": []}, OBJECT),
    "an operationName that is a number": (QUERY | {"operationName": 5}, "operationName is not text"),
    "an operationName of nothing": (NAMED_QUERY | {"operationName": "b"}, "Unknown operation"),
    "an operationName in spaces": (NAMED_QUERY | {"operationName": " a "}, "Unknown operation"),
}
BY_GET: dict[str, tuple[dict[str, Any], str]] = {
    "no query": ({}, "The request has no query."),
    "an empty query": ({"query": ""}, "The request has no query."),
    "variables that are no JSON": (QUERY | {"variables": "{a"}, "The parameter variables is not JSON."),
    "variables that are a list": (QUERY | {"variables": "[]"}, "The parameter variables is not a JSON object."),
    "variables with NaN": (QUERY | {"variables": '{"a": NaN}'}, "The parameter variables is not JSON."),
    "extensions that are no JSON": (QUERY | {"extensions": "x"}, "The parameter extensions is not JSON."),
    "extensions that are a number": (QUERY | {"extensions": "5"}, "The parameter extensions is not a JSON object."),
    "an operationName of nothing": (QUERY | {"operationName": "x"}, "Unknown operation"),
}


@pytest.mark.parametrize("what", BY_POST)
async def test_a_parameter_of_the_wrong_type_in_the_body_is_refused(client: httpx.AsyncClient, what: str) -> None:
    body, message = BY_POST[what]
    assert_refused(await client.post("/graphql", json=body), message)


@pytest.mark.parametrize("what", BY_GET)
async def test_a_parameter_of_the_wrong_type_in_the_address_is_refused(client: httpx.AsyncClient, what: str) -> None:
    parameters, message = BY_GET[what]
    assert_refused(await client.get("/graphql", params=parameters), message)


def assert_refused(answer: httpx.Response, message: str) -> None:
    assert answer.status_code == 400
    (error,) = answer.json()["errors"]
    assert message in error["message"]
    assert facts(error) == {"code": "BAD_USER_INPUT", "fields": []}


@pytest.mark.parametrize(
    "others",
    [
        {},
        {"variables": None, "extensions": None, "operationName": None},
        {"variables": {}, "extensions": {}, "operationName": "a"},
        {"unknown": 1},
    ],
)
async def test_parameters_may_be_left_out_or_null(client: httpx.AsyncClient, others: dict[str, object]) -> None:
    expected = {"data": {"__typename": "Query"}}
    assert (await client.post("/graphql", json=NAMED_QUERY | others)).json() == expected
    in_address = {name: value if isinstance(value, str) else json.dumps(value) for name, value in others.items()}
    if in_address.get("operationName") == "null":
        in_address["operationName"] = ""  # an empty parameter is one that is left out (GraphQL over HTTP, 6.2.1)
    assert (await client.get("/graphql", params=NAMED_QUERY | in_address)).json() == expected
    if "variables" in others:
        empty = {"variables": "", "extensions": "", "operationName": ""}
        assert (await client.get("/graphql", params=NAMED_QUERY | empty)).json() == expected


@pytest.mark.parametrize(
    ("given", "is_kept"),
    [
        ("0af7651916cd43dd8448eb211c80319c", True),
        ("a-b_c.d:e/f+g=", True),
        ("x" * 128, True),
        ("x" * 129, False),
        ("a b", False),
        ("é", False),
        ("", False),
    ],
)
async def test_a_request_id_of_the_client_is_kept_where_it_is_harmless(
    client: httpx.AsyncClient, given: str, is_kept: bool
) -> None:
    answer = await client.get("/healthz", headers=[(b"x-request-id", given.encode())])

    assert (answer.headers["x-request-id"] == given) is is_kept
    assert answer.headers["x-request-id"].isascii()
