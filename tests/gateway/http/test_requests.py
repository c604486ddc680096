"""HTTP requests: request ids, body limits, methods, status codes, and invalid input named by its path."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from gateway.http.middleware import BodyLimitMiddleware
from tests.gateway.conftest import Execute
from tests.gateway.fakes import ADA, TOKEN, FakeServices, error_extensions

LOGIN = "mutation ($input: LoginInput!) { login(input: $input) { operation { id } } }"


def invalid_fields(response: Any) -> dict[str, str]:
    """Return the messages by path; every error must have the code BAD_USER_INPUT."""
    fields: dict[str, str] = {}
    for error in response["errors"]:
        assert error["extensions"]["code"] == "BAD_USER_INPUT", error
        fields |= {".".join(field["path"]): field["message"] for field in error["extensions"]["fields"]}
    return fields


async def test_keeps_the_request_id_of_the_client(client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz", headers={"x-request-id": "abc-123"})).headers["x-request-id"] == "abc-123"


async def test_assigns_an_id_to_a_request_without_a_valid_one(client: httpx.AsyncClient) -> None:
    ids = {(await client.get("/healthz")).headers["x-request-id"] for _ in range(2)}
    assert len(ids) == 2
    strange = (await client.get("/healthz", headers={"x-request-id": "a b; drop"})).headers["x-request-id"]
    assert strange != "a b; drop"


async def test_passes_the_request_id_to_services(client: httpx.AsyncClient, services: FakeServices) -> None:
    headers = {"authorization": "Bearer t", "x-request-id": "abc-123"}
    await client.post("/graphql", json={"query": "{ viewer { user { id } } }"}, headers=headers)
    assert {caller.request_id for _, caller, _ in services.calls} == {"abc-123"}


async def test_unexpected_error_shows_only_the_request_id(client: httpx.AsyncClient, services: FakeServices) -> None:
    def fail(caller: object, body: object) -> None:
        raise ZeroDivisionError("the database is at 10.0.0.7")

    services.handlers["auth/get_current_session"] = fail
    headers = {"authorization": "Bearer t", "x-request-id": "abc-123"}
    response = await client.post("/graphql", json={"query": "{ viewer { user { id } } }"}, headers=headers)
    (error,) = response.json()["errors"]
    assert error["extensions"] == {"code": "INTERNAL", "requestId": "abc-123"}
    assert "10.0.0.7" not in response.text


async def test_refuses_a_body_that_is_too_large(client: httpx.AsyncClient) -> None:
    response = await client.post(
        "/graphql", content=b" " * (256 * 1024 + 1), headers={"content-type": "application/json"}
    )
    assert response.status_code == 413
    assert response.json()["errors"][0]["message"] == "The body is larger than 256 KiB."


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nope",
        b"[]",
        b"5",
        b"\xff",
        b"[" * 100_000,
        b"{}",
        b'{"query": 5}',
        b'{"query": ""}',
        b'{"query": "{ a }", "variables": []}',
        b'{"query": "{ __typename }", "operationName": 5}',
        b'{"query": "query a { __typename }", "operationName": "b"}',
        b'{"query": "subscription { operation(id: 1) { id } }"}',
    ],
)
async def test_refuses_a_body_that_is_not_a_graphql_request(client: httpx.AsyncClient, body: bytes) -> None:
    response = await client.post("/graphql", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert [error_extensions(error) for error in response.json()["errors"]] == [
        {"code": "BAD_USER_INPUT", "fields": []}
    ]


async def test_executes_queries_by_get(client: httpx.AsyncClient) -> None:
    parameters = {"query": "query ($id: ID!) { node(id: $id) { id } }", "variables": json.dumps({"id": ADA})}
    response = await client.get("/graphql", params=parameters, headers={"authorization": f"Bearer {TOKEN}"})
    assert response.json() == {"data": {"node": {"id": ADA}}}


async def test_refuses_a_mutation_by_get_before_execution(client: httpx.AsyncClient, services: FakeServices) -> None:
    response = await client.get("/graphql", params={"query": "mutation { logout { ok } }"})
    assert response.status_code == 405
    assert services.calls == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"query": "{ __typename }", "variables": ' + b'{"a":' * 32 + b"1" + b"}" * 33, "nested too deeply"),
        (b'{"query": "{ __typename }", "variables": {"a": NaN}}', "not JSON"),
        (b'{"query": "{ __typename }", "variables": {"a": 1' + b"0" * 5_000 + b"}}", "not JSON"),
        (b'{"query": "{ __typename }", "variables": {"a": "\\ud800"}}', "half a character"),
        (b'{"query": "{ __typename }", "variables": {"a": "\xed\xa0\x80"}}', "not JSON"),
        (b'{"query": "{ __typename }", "variables": {"a": [' + b"[]," * 80_000 + b"[]]}}", "too many values"),
        (b'[{"query": "{ __typename }"}]', "not a JSON object"),
    ],
)
async def test_refuses_json_that_services_could_not_accept(client: httpx.AsyncClient, body: bytes, reason: str) -> None:
    response = await client.post("/graphql", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert reason in response.json()["errors"][0]["message"]


async def test_accepts_a_pair_of_surrogates_as_one_character(client: httpx.AsyncClient) -> None:
    body = b'{"query": "{ __typename }", "variables": {"a": "\\ud83d\\ude00"}}'
    response = await client.post("/graphql", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 200


GRAPHQL = "application/graphql-response+json"


@pytest.mark.parametrize(
    ("query", "variables", "status"),
    [
        ("{ __typename }", None, 200),
        ("{", None, 400),
        ("{ nope }", None, 400),
        ("{ " + "__typename " * 21 + "}", None, 400),
        ("query ($id: ID!) { node(id: $id) { id } }", {"id": {}}, 400),
        ("{ viewer { user { id } } }", None, 200),
        ("{ operation(id: 1) { id } }", None, 200),
    ],
)
async def test_status_of_the_graphql_media_type_shows_whether_the_document_was_executed(
    client: httpx.AsyncClient, query: str, variables: object, status: int
) -> None:
    parameters = {"query": query, "variables": variables}
    response = await client.post("/graphql", json=parameters, headers={"accept": f"{GRAPHQL}, application/json;q=0.9"})
    assert response.status_code == status
    assert response.headers["content-type"] == f"{GRAPHQL}; charset=utf-8"
    assert ("data" in response.json()) is (status == 200)
    plain = await client.post("/graphql", json=parameters, headers={"accept": f"application/json, {GRAPHQL};q=0.5"})
    assert plain.status_code == 200
    assert plain.headers["content-type"] == "application/json"


async def test_times_out_a_body_that_arrives_too_slowly() -> None:
    async def read_forever(scope: object, receive: Any, send: object) -> None:
        while True:
            await receive()

    async def receive_slowly() -> Any:
        await asyncio.sleep(0.04)
        return {"type": "http.request", "body": b" ", "more_body": True}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    limit = BodyLimitMiddleware(read_forever, max_bytes=1000, timeout_seconds=0.2, exempt_prefix="/uploads/")
    await limit({"type": "http", "path": "/graphql", "state": {"request_id": "mine"}}, receive_slowly, send)
    assert sent[0]["status"] == 408
    assert b"did not come within 0.2 seconds" in sent[1]["body"]
    assert b'"requestId":"mine"' in sent[1]["body"]


@pytest.mark.parametrize(
    "query", ["{", "{ nope }", "{ viewer { user } }", "{" + "a{" * 5_000, "{ a" * 90 + "}" * 90, "query a { ...b }"]
)
async def test_invalid_document_is_bad_user_input(execute: Execute, query: str) -> None:
    response = await execute(query)
    assert invalid_fields(response) == {}
    assert "data" not in response


async def test_names_invalid_variables_by_the_path_of_their_use(execute: Execute) -> None:
    response = await execute(LOGIN, input={"email": 5, "passwort": "secret", "waitSeconds": "soon"})
    assert list(invalid_fields(response)) == ["input.email", "input.password", "input.waitSeconds", "input.passwort"]
    assert "secret" not in str(response)


async def test_names_an_invalid_variable_by_its_argument(execute: Execute) -> None:
    query = 'mutation ($m: String!) { login(input: { email: $m, password: "p" }) { operation { id } } }'
    assert list(invalid_fields(await execute(query, m=5))) == ["input.email"]
    assert list(invalid_fields(await execute(query))) == ["input.email"]


async def test_lists_at_most_twenty_errors_in_variables(execute: Execute) -> None:
    query = "query ($ids: [ID!]!) { nodes(ids: $ids) { id } }"
    for count, expected in ((19, 19), (20, 20), (30, 20)):
        (error,) = (await execute(query, ids=[None] * count))["errors"]
        assert len(error["extensions"]["fields"]) == expected


async def test_names_invalid_literals_by_their_path(execute: Execute) -> None:
    query = 'mutation { login(input: { email: 5, waitSeconds: "x" }) { operation { id } } }'
    assert set(invalid_fields(await execute(query))) == {"input.email", "input.password", "input.waitSeconds"}
    assert list(invalid_fields(await execute("{ operation { id } }"))) == ["id"]
    assert list(invalid_fields(await execute("{ viewer { operations(first: 1.5) { totalCount } } }"))) == ["first"]
    assert list(
        invalid_fields(await execute("{ viewer { operations(filter: { kinds: [NOPE] }) { totalCount } } }"))
    ) == ["filter.kinds.0"]


@pytest.mark.parametrize(
    ("values", "fields"),
    [
        ({"email": "ada"}, ["input.email"]),
        ({"email": "a@" + "b" * 300}, ["input.email"]),
        ({"password": ""}, ["input.password"]),
        ({"password": "x" * 300}, ["input.password"]),
        ({"idempotencyKey": ""}, ["input.idempotencyKey"]),
        ({"idempotencyKey": "x" * 201}, ["input.idempotencyKey"]),
        ({"idempotencyKey": "a\x00b"}, ["input.idempotencyKey"]),
        ({"tenantId": "x" * 201, "waitSeconds": 31}, ["input.tenantId", "input.waitSeconds"]),
        ({"waitSeconds": -1}, ["input.waitSeconds"]),
    ],
)
async def test_values_out_of_bounds_are_bad_user_input(
    execute: Execute, services: FakeServices, values: dict[str, object], fields: list[str]
) -> None:
    response = await execute(LOGIN, input={"email": "ada@example.com", "password": "right"} | values)
    assert sorted(invalid_fields(response)) == fields
    assert not services.requests_to("auth/verify_credentials")


@pytest.mark.parametrize("first", [-1, 101, 2_147_483_647])
async def test_page_size_is_bounded(execute: Execute, first: int) -> None:
    query = "query ($first: Int) { viewer { operations(first: $first) { totalCount } } }"
    assert list(invalid_fields(await execute(query, first=first))) == ["first"]


async def test_more_than_a_hundred_nodes_are_bad_user_input(execute: Execute) -> None:
    query = "query ($ids: [ID!]!) { nodes(ids: $ids) { id } }"
    assert list(invalid_fields(await execute(query, ids=["x"] * 101))) == ["ids"]


async def test_forged_cursor_is_bad_user_input(execute: Execute) -> None:
    response = await execute('{ viewer { operations(after: "forged") { totalCount } } }')
    assert list(invalid_fields(response)) == ["after"]


async def test_health_endpoints_respond(client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz")).json() == {"status": "ok"}
    assert (await client.get("/readyz")).json() == {"status": "ok"}


async def test_serves_its_schema(client: httpx.AsyncClient) -> None:
    response = await client.get("/graphql/schema")
    assert response.headers["content-type"].startswith("text/plain")
    assert "type Subscription" in response.text
