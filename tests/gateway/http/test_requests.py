"""Requests as they come in: ids, sizes, methods, and bad input named by its path."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from gateway.http.middleware import BodyLimitMiddleware
from tests.gateway.conftest import Ask
from tests.gateway.fakes import ADA, TOKEN, Services, facts

LOGIN = "mutation ($input: LoginInput!) { login(input: $input) { operation { id } } }"


def bad_fields(answer: Any) -> dict[str, str]:
    """Message by path; the answer holds nothing but BAD_USER_INPUT."""
    fields: dict[str, str] = {}
    for error in answer["errors"]:
        assert error["extensions"]["code"] == "BAD_USER_INPUT", error
        fields |= {".".join(field["path"]): field["message"] for field in error["extensions"]["fields"]}
    return fields


async def test_a_request_keeps_its_id(client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz", headers={"x-request-id": "abc-123"})).headers["x-request-id"] == "abc-123"


async def test_a_request_without_an_id_is_given_one(client: httpx.AsyncClient) -> None:
    ids = {(await client.get("/healthz")).headers["x-request-id"] for _ in range(2)}
    assert len(ids) == 2
    strange = (await client.get("/healthz", headers={"x-request-id": "a b; drop"})).headers["x-request-id"]
    assert strange != "a b; drop"


async def test_services_are_told_the_request_id(client: httpx.AsyncClient, services: Services) -> None:
    headers = {"authorization": "Bearer t", "x-request-id": "abc-123"}
    await client.post("/graphql", json={"query": "{ viewer { user { id } } }"}, headers=headers)
    assert {caller.request_id for _, caller, _ in services.calls} == {"abc-123"}


async def test_trouble_tells_the_client_only_the_request_id(client: httpx.AsyncClient, services: Services) -> None:
    def trouble(caller: object, body: object) -> None:
        raise ZeroDivisionError("the database is at 10.0.0.7")

    services.handlers["auth/get_current_session"] = trouble
    headers = {"authorization": "Bearer t", "x-request-id": "abc-123"}
    answer = await client.post("/graphql", json={"query": "{ viewer { user { id } } }"}, headers=headers)
    (error,) = answer.json()["errors"]
    assert error["extensions"] == {"code": "INTERNAL", "requestId": "abc-123"}
    assert "10.0.0.7" not in answer.text


async def test_a_body_that_is_too_large_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        "/graphql", content=b" " * (256 * 1024 + 1), headers={"content-type": "application/json"}
    )
    assert answer.status_code == 413
    assert answer.json()["errors"][0]["message"] == "The body is larger than 256 KiB."


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
async def test_a_body_that_is_no_request_is_refused(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post("/graphql", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert [facts(error) for error in answer.json()["errors"]] == [{"code": "BAD_USER_INPUT", "fields": []}]


async def test_what_changes_nothing_may_be_asked_by_get(client: httpx.AsyncClient) -> None:
    asked = {"query": "query ($id: ID!) { node(id: $id) { id } }", "variables": json.dumps({"id": ADA})}
    answer = await client.get("/graphql", params=asked, headers={"authorization": f"Bearer {TOKEN}"})
    assert answer.json() == {"data": {"node": {"id": ADA}}}


async def test_a_mutation_by_get_is_refused_before_anything_is_done(
    client: httpx.AsyncClient, services: Services
) -> None:
    answer = await client.get("/graphql", params={"query": "mutation { logout { ok } }"})
    assert answer.status_code == 405
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
async def test_json_that_cannot_be_passed_on_is_refused(client: httpx.AsyncClient, body: bytes, reason: str) -> None:
    answer = await client.post("/graphql", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert reason in answer.json()["errors"][0]["message"]


async def test_a_pair_of_surrogates_is_a_character(client: httpx.AsyncClient) -> None:
    body = b'{"query": "{ __typename }", "variables": {"a": "\\ud83d\\ude00"}}'
    answer = await client.post("/graphql", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 200


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
async def test_the_status_tells_whether_it_was_carried_out_to_who_asks_for_graphql_s_own_type(
    client: httpx.AsyncClient, query: str, variables: object, status: int
) -> None:
    asked = {"query": query, "variables": variables}
    answer = await client.post("/graphql", json=asked, headers={"accept": f"{GRAPHQL}, application/json;q=0.9"})
    assert answer.status_code == status
    assert answer.headers["content-type"] == f"{GRAPHQL}; charset=utf-8"
    assert ("data" in answer.json()) is (status == 200)
    plain = await client.post("/graphql", json=asked, headers={"accept": f"application/json, {GRAPHQL};q=0.5"})
    assert plain.status_code == 200
    assert plain.headers["content-type"] == "application/json"


async def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    async def stuck(scope: object, receive: Any, send: object) -> None:
        while True:
            await receive()

    async def slowly() -> Any:
        await asyncio.sleep(0.04)
        return {"type": "http.request", "body": b" ", "more_body": True}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    limit = BodyLimitMiddleware(stuck, max_bytes=1000, timeout_seconds=0.2, exempt_prefix="/uploads/")
    await limit({"type": "http", "path": "/graphql", "state": {"request_id": "mine"}}, slowly, send)
    assert sent[0]["status"] == 408
    assert b"did not come within 0.2 seconds" in sent[1]["body"]
    assert b'"requestId":"mine"' in sent[1]["body"]


@pytest.mark.parametrize(
    "query", ["{", "{ nope }", "{ viewer { user } }", "{" + "a{" * 5_000, "{ a" * 90 + "}" * 90, "query a { ...b }"]
)
async def test_a_document_that_is_not_valid_is_bad_input(ask: Ask, query: str) -> None:
    answer = await ask(query)
    assert bad_fields(answer) == {}
    assert "data" not in answer


async def test_bad_variables_are_named_by_the_path_they_are_used_at(ask: Ask) -> None:
    answer = await ask(LOGIN, input={"email": 5, "passwort": "secret", "waitSeconds": "soon"})
    assert list(bad_fields(answer)) == ["input.email", "input.password", "input.waitSeconds", "input.passwort"]
    assert "secret" not in str(answer)


async def test_a_variable_of_another_name_is_named_by_its_argument(ask: Ask) -> None:
    query = 'mutation ($m: String!) { login(input: { email: $m, password: "p" }) { operation { id } } }'
    assert list(bad_fields(await ask(query, m=5))) == ["input.email"]
    assert list(bad_fields(await ask(query))) == ["input.email"]


async def test_at_most_twenty_mistakes_in_variables_are_listed(ask: Ask) -> None:
    query = "query ($ids: [ID!]!) { nodes(ids: $ids) { id } }"
    for given, listed in ((19, 19), (20, 20), (30, 20)):
        (error,) = (await ask(query, ids=[None] * given))["errors"]
        assert len(error["extensions"]["fields"]) == listed


async def test_bad_literals_are_named_by_their_path(ask: Ask) -> None:
    query = 'mutation { login(input: { email: 5, waitSeconds: "x" }) { operation { id } } }'
    assert set(bad_fields(await ask(query))) == {"input.email", "input.password", "input.waitSeconds"}
    assert list(bad_fields(await ask("{ operation { id } }"))) == ["id"]
    assert list(bad_fields(await ask("{ viewer { operations(first: 1.5) { totalCount } } }"))) == ["first"]
    assert list(bad_fields(await ask("{ viewer { operations(filter: { kinds: [NOPE] }) { totalCount } } }"))) == [
        "filter.kinds.0"
    ]


@pytest.mark.parametrize(
    ("given", "fields"),
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
async def test_values_out_of_bounds_are_bad_input(
    ask: Ask, services: Services, given: dict[str, object], fields: list[str]
) -> None:
    answer = await ask(LOGIN, input={"email": "ada@example.com", "password": "right"} | given)
    assert sorted(bad_fields(answer)) == fields
    assert not services.asked("auth/verify_credentials")


@pytest.mark.parametrize("first", [-1, 101, 2_147_483_647])
async def test_the_length_of_a_page_is_bounded(ask: Ask, first: int) -> None:
    query = "query ($first: Int) { viewer { operations(first: $first) { totalCount } } }"
    assert list(bad_fields(await ask(query, first=first))) == ["first"]


async def test_more_than_a_hundred_nodes_are_bad_input(ask: Ask) -> None:
    query = "query ($ids: [ID!]!) { nodes(ids: $ids) { id } }"
    assert list(bad_fields(await ask(query, ids=["x"] * 101))) == ["ids"]


async def test_a_forged_cursor_is_bad_input(ask: Ask) -> None:
    answer = await ask('{ viewer { operations(after: "forged") { totalCount } } }')
    assert list(bad_fields(answer)) == ["after"]


async def test_says_that_it_lives_and_is_ready(client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz")).json() == {"status": "ok"}
    assert (await client.get("/readyz")).json() == {"status": "ok"}


async def test_shows_its_schema(client: httpx.AsyncClient) -> None:
    answer = await client.get("/graphql/schema")
    assert answer.headers["content-type"].startswith("text/plain")
    assert "type Subscription" in answer.text
