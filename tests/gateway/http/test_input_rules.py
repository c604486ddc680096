"""Every kind of client input is accepted in its stored form or refused with a message.

Each kind has its standard and its examples in ``input_examples``.
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
from tests.gateway.conftest import Execute
from tests.gateway.fakes import FakeServices, error_extensions
from tests.gateway.http.input_examples import EMPTY, KINDS, ONBOARD, Kind, direction


def examples(outcome_kind: str) -> list[Any]:
    """Return the accepted or refused examples of all kinds as parameters."""
    return [
        pytest.param(kind, value, outcome, id=f"{name}-{ascii(value)[:40]}")
        for name, kind in KINDS.items()
        for value, outcome in getattr(kind, outcome_kind).items()
    ]


@pytest.fixture
def accepting_services(services: FakeServices) -> FakeServices:
    """Fake services that accept every valid value."""

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
async def test_accepts_a_value_in_the_form_of_its_standard(
    execute: Execute, accepting_services: FakeServices, kind: Kind, value: object, keeps: object
) -> None:
    response = await execute(kind.document, input={**kind.input, kind.field: value})

    codes = {error["extensions"]["code"] for error in response.get("errors", ())}
    assert codes <= {"INVALID_CREDENTIALS"}, response
    if kind.keeps is not None:
        verb, name = kind.keeps
        (body,) = [body for called, _, body in accepting_services.calls if called == verb]
        assert body[name] == keeps


@pytest.mark.parametrize(("kind", "value", "message"), examples("refused"))
async def test_refuses_a_value_with_its_path_and_the_reason(
    execute: Execute, accepting_services: FakeServices, kind: Kind, value: object, message: str | None
) -> None:
    response = await execute(kind.document, input={**kind.input, kind.field: value})

    (error,) = response["errors"]
    assert error_extensions(error)["code"] == "BAD_USER_INPUT"
    (field_error,) = error_extensions(error)["fields"]
    assert field_error["path"] == ["input", kind.field]
    if message is not None:
        assert field_error["message"] == error["message"] == message
    assert not {verb for verb, _, _ in accepting_services.calls} & {"auth/verify_credentials", "files/create_upload"}


async def test_reports_all_invalid_fields_of_an_input_together(execute: Execute) -> None:
    response = await execute(ONBOARD, input={"email": "a,b@", "name": "\u202e", "password": "short"})

    (error,) = response["errors"]
    assert {tuple(each["path"]): each["message"] for each in error_extensions(error)["fields"]} == {
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
async def test_pagination_arguments(
    execute: Execute, list_: str, arguments: str, refused: tuple[str, str | None] | None
) -> None:
    response = await execute(f"{{ viewer {{ {list_}{arguments} {{ nodes {{ id }} pageInfo {{ hasNextPage }} }} }} }}")

    if refused is None:
        assert "errors" not in response, response
        return
    (error,) = response["errors"]
    assert error_extensions(error)["code"] == "BAD_USER_INPUT"
    if refused[0] != "last":  # the schema has no such argument
        (field_error,) = error_extensions(error)["fields"]
        assert field_error["path"] == [refused[0]]
        assert refused[1] in (None, field_error["message"])


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


@pytest.mark.parametrize("case", BY_POST)
async def test_refuses_a_parameter_of_the_wrong_type_in_the_body(client: httpx.AsyncClient, case: str) -> None:
    body, message = BY_POST[case]
    assert_refused(await client.post("/graphql", json=body), message)


@pytest.mark.parametrize("case", BY_GET)
async def test_refuses_a_parameter_of_the_wrong_type_in_the_url(client: httpx.AsyncClient, case: str) -> None:
    parameters, message = BY_GET[case]
    assert_refused(await client.get("/graphql", params=parameters), message)


def assert_refused(response: httpx.Response, message: str) -> None:
    """Check that the response refuses the request with this message."""
    assert response.status_code == 400
    (error,) = response.json()["errors"]
    assert message in error["message"]
    assert error_extensions(error) == {"code": "BAD_USER_INPUT", "fields": []}


@pytest.mark.parametrize(
    "others",
    [
        {},
        {"variables": None, "extensions": None, "operationName": None},
        {"variables": {}, "extensions": {}, "operationName": "a"},
        {"unknown": 1},
    ],
)
async def test_parameters_may_be_absent_or_null(client: httpx.AsyncClient, others: dict[str, object]) -> None:
    expected = {"data": {"__typename": "Query"}}
    assert (await client.post("/graphql", json=NAMED_QUERY | others)).json() == expected
    in_address = {name: value if isinstance(value, str) else json.dumps(value) for name, value in others.items()}
    if in_address.get("operationName") == "null":
        in_address["operationName"] = ""  # an empty parameter counts as absent (GraphQL over HTTP, 6.2.1)
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
async def test_keeps_the_request_id_of_the_client_if_it_is_harmless(
    client: httpx.AsyncClient, given: str, is_kept: bool
) -> None:
    response = await client.get("/healthz", headers=[(b"x-request-id", given.encode())])

    assert (response.headers["x-request-id"] == given) is is_kept
    assert response.headers["x-request-id"].isascii()
