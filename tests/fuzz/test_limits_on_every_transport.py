"""A document that signs in, switches or onboards twice is refused whole, however it is disguised and sent."""

from __future__ import annotations

import hashlib
import json
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from schema.execution.query_cost import SINGLE_USE_MUTATIONS
from tests.gateway.fakes import Services
from tests.gateway.live_gateway import Gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")

INPUT = {
    "login": '{ email: "a@example.com", password: "wrong" }',
    "submitMfaCode": '{ operationId: "login-1", code: "123456" }',
    "switchTenant": '{ tenantId: "ten_1" }',
    "onboardUser": '{ email: "a@example.com", name: "A", password: "adx-demo-password" }',
}
DISGUISES = {
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
    "beside a query": "query A {{ __typename }} mutation B {{ a: {it} b: {it} }}",
}
SSE, PARTS = "text/event-stream", 'multipart/mixed;boundary="graphql";subscriptionSpec=1.0'
UNUSED = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Which clients would each make for themselves, slowly."""
Send = Callable[[Gateway, dict[str, Any]], Awaitable[str]]
"""The whole answer."""


def disguised(name: str, disguise: str) -> dict[str, Any]:
    it = f"{name}(input: {INPUT[name]}) {{ operation {{ id }} }}"
    skipped = it.replace(") {", ") @skip(if: $s) {", 1)
    body: dict[str, Any] = {"query": DISGUISES[disguise].format(it=it, it2=skipped)}
    return body | ({"operationName": "B"} if " B " in body["query"] else {})


def posted(accept: str) -> Send:
    async def send(gateway: Gateway, body: dict[str, Any]) -> str:
        async with httpx.AsyncClient(trust_env=False, verify=UNUSED) as http:
            return (await http.post(f"{gateway.http}/graphql", json=body, headers={"accept": accept})).text

    return send


async def by_get(gateway: Gateway, body: dict[str, Any]) -> str:
    async with httpx.AsyncClient(trust_env=False, verify=UNUSED) as http:
        return (await http.get(f"{gateway.http}/graphql", params=body)).text


async def by_hash(gateway: Gateway, body: dict[str, Any]) -> str:
    """Once with the document, as it would be learnt, and once without."""
    name = hashlib.sha256(body["query"].encode()).hexdigest()
    named = body | {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": name}}}
    told = await posted("application/json")(gateway, named)
    del named["query"]
    assert "PERSISTED_QUERY_NOT_FOUND" in await posted("application/json")(gateway, named)
    return told


async def in_a_batch(gateway: Gateway, body: dict[str, Any]) -> str:
    async with httpx.AsyncClient(trust_env=False, verify=UNUSED) as http:
        return (await http.post(f"{gateway.http}/graphql", json=[body, body])).text


async def on_a_socket(gateway: Gateway, body: dict[str, Any]) -> str:
    async with gateway.open() as socket:
        await socket.say({"id": "1", "type": "subscribe", "payload": body})
        message = await socket.next()
        assert message["type"] == "error"
        return json.dumps(message)


WAYS: dict[str, Send] = {
    "POST": posted("application/json"),
    "GET": by_get,
    "an event stream": posted(SSE),
    "a multipart subscription": posted(PARTS),
    "an answer in parts": posted("multipart/mixed, application/json"),
    "a hash": by_hash,
    "a batch": in_a_batch,
    "a websocket": on_a_socket,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_nothing_of_it_is_carried_out_whichever_way_it_comes(
    gateway: Gateway, services: Services, way: Send
) -> None:
    for disguise in DISGUISES:
        answer = await way(gateway, disguised("login", disguise))
        assert "BAD_USER_INPUT" in answer, (disguise, answer)
        if way is not in_a_batch:
            assert "login more than once" in answer, (disguise, answer)
    assert services.calls == []


async def test_so_it_is_with_each_mutation_that_may_stand_once(gateway: Gateway, services: Services) -> None:
    assert set(INPUT) == SINGLE_USE_MUTATIONS
    for name in INPUT:
        for disguise in DISGUISES:
            answer = await WAYS["POST"](gateway, disguised(name, disguise))
            assert f"{name} more than once" in answer, (disguise, answer)
    assert services.calls == []
