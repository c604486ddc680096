"""A document that repeats a single-use mutation is refused completely, in every syntax and on every transport."""

from __future__ import annotations

import hashlib
import json
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from schema.execution.query_cost import SINGLE_USE_MUTATIONS
from tests.gateway.fakes import FakeServices
from tests.gateway.live_gateway import Gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")

INPUT = {
    "login": '{ email: "a@example.com", password: "wrong" }',
    "submitMfaCode": '{ operationId: "login-1", code: "123456" }',
    "switchTenant": '{ tenantId: "ten_1" }',
    "onboardUser": '{ email: "a@example.com", name: "A", password: "adx-demo-password" }',
}
SYNTAXES = {
    "aliases": "mutation {{ a: {it} b: {it} }}",
    "a merged field": "mutation {{ {it} {it} }}",
    "fragments": "mutation {{ ...f ...g }} fragment f on Mutation {{ a: {it} }} fragment g on Mutation {{ b: {it} }}",
    "one fragment twice": "mutation {{ ...f ...f }} fragment f on Mutation {{ {it} }}",
    "fragments in fragments": (
        "mutation {{ ...f }} fragment f on Mutation {{ a: {it} ...g }} fragment g on Mutation {{ ... {{ b: {it} }} }}"
    ),
    "fragments without a type": "mutation {{ ... {{ a: {it} }} ... {{ b: {it} }} }}",
    "a condition that holds": "mutation {{ a: {it} ... @include(if: true) {{ b: {it} }} }}",
    "a condition that may not hold": "mutation ($s: Boolean = true) {{ a: {it} b: {it2} }}",
    "another operation": "mutation A {{ {it} }} mutation B {{ {it} }}",
    "a fragment of two operations": "mutation A {{ ...f }} mutation B {{ ...f }} fragment f on Mutation {{ {it} }}",
    "a query in the same document": "query A {{ __typename }} mutation B {{ a: {it} b: {it} }}",
}
SSE, MULTIPART = "text/event-stream", 'multipart/mixed;boundary="graphql";subscriptionSpec=1.0'
UNUSED = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""A shared TLS context, because creating one for each client is slow."""
SendRequest = Callable[[Gateway, dict[str, Any]], Awaitable[str]]
"""Sends a request body and returns the response as text."""


def repeated_mutation(name: str, syntax: str) -> dict[str, Any]:
    """Return a request body that contains the mutation twice, in this syntax."""
    it = f"{name}(input: {INPUT[name]}) {{ operation {{ id }} }}"
    skipped_field = it.replace(") {", ") @skip(if: $s) {", 1)
    body: dict[str, Any] = {"query": SYNTAXES[syntax].format(it=it, it2=skipped_field)}
    return body | ({"operationName": "B"} if " B " in body["query"] else {})


def posted_with(accept: str) -> SendRequest:
    """Return a function that posts the request with this Accept header."""

    async def send(gateway: Gateway, body: dict[str, Any]) -> str:
        async with httpx.AsyncClient(trust_env=False, verify=UNUSED) as http:
            return (await http.post(f"{gateway.http}/graphql", json=body, headers={"accept": accept})).text

    return send


async def by_get(gateway: Gateway, body: dict[str, Any]) -> str:
    """Send the document by GET."""
    async with httpx.AsyncClient(trust_env=False, verify=UNUSED) as http:
        return (await http.get(f"{gateway.http}/graphql", params=body)).text


async def by_hash(gateway: Gateway, body: dict[str, Any]) -> str:
    """Send the document with its hash, then check that the hash alone was not stored."""
    name = hashlib.sha256(body["query"].encode()).hexdigest()
    hashed_request = body | {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": name}}}
    response = await posted_with("application/json")(gateway, hashed_request)
    del hashed_request["query"]
    assert "PERSISTED_QUERY_NOT_FOUND" in await posted_with("application/json")(gateway, hashed_request)
    return response


async def by_batch(gateway: Gateway, body: dict[str, Any]) -> str:
    """Send the request twice in one JSON array."""
    async with httpx.AsyncClient(trust_env=False, verify=UNUSED) as http:
        return (await http.post(f"{gateway.http}/graphql", json=[body, body])).text


async def by_websocket(gateway: Gateway, body: dict[str, Any]) -> str:
    """Subscribe on a websocket and return the error message."""
    async with gateway.open() as socket:
        await socket.send({"id": "1", "type": "subscribe", "payload": body})
        message = await socket.receive()
        assert message["type"] == "error"
        return json.dumps(message)


TRANSPORTS: dict[str, SendRequest] = {
    "POST": posted_with("application/json"),
    "GET": by_get,
    "an event stream": posted_with(SSE),
    "a multipart subscription": posted_with(MULTIPART),
    "incremental delivery": posted_with("multipart/mixed, application/json"),
    "a hash": by_hash,
    "a batch": by_batch,
    "a websocket": by_websocket,
}


@pytest.mark.parametrize("send_request", TRANSPORTS.values(), ids=TRANSPORTS)
async def test_repeated_login_is_refused_without_effect_on_every_transport(
    gateway: Gateway, services: FakeServices, send_request: SendRequest
) -> None:
    for syntax in SYNTAXES:
        response = await send_request(gateway, repeated_mutation("login", syntax))
        assert "BAD_USER_INPUT" in response, (syntax, response)
        if send_request is not by_batch:
            assert "login more than once" in response, (syntax, response)
    assert services.calls == []


async def test_each_single_use_mutation_is_refused_when_repeated(gateway: Gateway, services: FakeServices) -> None:
    assert set(INPUT) == SINGLE_USE_MUTATIONS
    for name in INPUT:
        for syntax in SYNTAXES:
            response = await TRANSPORTS["POST"](gateway, repeated_mutation(name, syntax))
            assert f"{name} more than once" in response, (syntax, response)
    assert services.calls == []
