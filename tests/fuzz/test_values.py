"""No value that a client sends for an argument or a directive causes an internal error of the gateway.

``FUZZ_VALUES=all`` sends each value to each place in both forms; without it each place gets an eighth of them.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from graphql import build_schema

from tests.end_to_end.client import PASSWORD, Client
from tests.end_to_end.files import keep
from tests.fuzz.values import USUAL, VALUES, as_graphql, document, slots
from tests.stack import ROOT, Stack

SCHEMA = build_schema((ROOT / "schema.graphql").read_text())
PLACES = list(slots(SCHEMA))
SHARE = 1 if os.environ.get("FUZZ_VALUES") == "all" else 8
AT_ONCE = 8
STREAM_SECONDS = 0.5
JSON = "application/json"
PARTS = "multipart/mixed;deferSpec=20220824, application/json"
EVENTS = "text/event-stream"

DIRECTIVES = tuple(
    f"@{name}({argument}: {{}})"
    for name, argument in (
        *(("include", "if"), ("skip", "if"), ("defer", "if"), ("defer", "label"), ("nope", "if")),
        *(("stream", "if"), ("stream", "label"), ("stream", "initialCount"), ("specifiedBy", "url")),
    )
)
DIRECTED = (
    "query{v} {{ viewer {{ ... {d} {{ user {{ name }} }} }} }}",
    "query{v} {{ viewer {{ sessions {d} {{ id tenant {{ name }} }} }} }}",
    "query{v} {{ viewer {{ tenantOverview {{ permissions {d} availableTenants {d} {{ id }} }} }} }}",
    "query{v} {d} {{ ...F {d} }} fragment F on Query {d} {{ viewer {{ user {{ id }} }} }}",
    "mutation{v} {{ ... {d} {{ updatePreferences(input: {{}}) {{ preferences {d} {{ language }} }} }} }}",
    'subscription{v} {{ ... {d} {{ operation(id: "x") {d} {{ id }} }} }}',
)
DIRECTIVE_VALUES = ("null", "true", "-1", "0", "99999999999", "1e400", '""', r'"\ud800"', "[]", "{}", "X")
VARIABLES = (("Int", "-1"), ("Int", "null"), ("Int = -1", None), ("Int = null", None), ("Boolean", "null"))
ODD = (
    "{ viewer { ...F } } fragment F on Viewer { user { id } } fragment F on Viewer { user { name } }",
    "{ viewer { ...F } } fragment F on Viewer { ...F }",
    "query A { __typename } query A { __typename }",
    "query ($v: Int, $v: Int) { __typename }",
    "query ($v: [[[[Int]]]]) { viewer { files(first: $v) { totalCount } } }",
    "query ($v: Viewer) { __typename }",
    "{ __type(name: null) { name } }",
    '{ viewer { ... @defer(label: "a") { user { id } } ... @defer(label: "a") { user { name } } } }',
    '{ nodes(ids: ["x", "y"]) @stream { id } }',
    "{ viewer { files(first: -1) { nodes @stream(initialCount: 1) { id } } } }",
    "{ viewer { operations { nodes @stream(initialCount: 1) { id progress { steps @stream { name } } } } } }",
    "subscription { operations { progress { steps @stream { name } } } }",
    'subscription { ...F } fragment F on Subscription { operations { id } operation(id: "x") { id } }',
    "type X { a: Int }",
    "{ \ud800 }",
    "\x00",
)
ENVELOPES = ("operationName", "variables", "extensions", "query", "documentId")
ENVELOPE_VALUES = ("null", "true", "1e400", "NaN", '""', r'"\u0000"', r'"\ud800"', "[]", '{"persistedQuery":{"x":[]}}')


class Request(NamedTuple):
    body: str
    accept: str = JSON


def written(query: str, variable: str | None = None, accept: str = JSON) -> Request:
    """``variable``: the JSON of ``$v``."""
    more = "" if variable is None else f',"variables":{{"v":{variable}}}'
    return Request(f'{{"query":{json.dumps(query)}{more}}}', accept)


def to_every_place(usual: dict[str, str]) -> Iterator[Request]:
    for number, place in enumerate(PLACES):
        accept = EVENTS if place.root == "subscription" else JSON
        for value in VALUES[number % SHARE :: SHARE]:
            literal = as_graphql(value)
            if literal is not None:
                yield written(document(SCHEMA, place, literal, usual=usual), accept=accept)
            query = document(SCHEMA, place, "$v", declared=str(place.type), usual=usual)
            yield written(query, value, accept)


def to_every_directive() -> Iterator[Request]:
    for text in DIRECTED:
        for directive in DIRECTIVES:
            for value in DIRECTIVE_VALUES:
                yield written(text.format(v="", d=directive.format(value)), accept=PARTS)
            for type_, value_of in VARIABLES:
                yield written(text.format(v=f" ($v: {type_})", d=directive.format("$v")), value_of, PARTS)
    for text in ODD:
        for accept in (JSON, PARTS, EVENTS):
            yield written(text, accept=accept)


def envelopes() -> Iterator[Request]:
    for name in ENVELOPES:
        for value in ENVELOPE_VALUES:
            for accept in (JSON, PARTS, EVENTS):
                query = "" if name == "query" else '"query":"query A { __typename }",'
                yield Request(f'{{{query}"{name}":{value}}}', accept)


async def check(stack: Stack, token: str, requests: Iterable[Request]) -> Counter[str]:
    """Send them all. Fail with those that are answered by INTERNAL or 5xx, or that leave an error in the log."""
    log = stack.data_dir / "stack.log"
    begin, wrong, codes = log.stat().st_size, [], Counter[str]()
    waiting = iter(requests)
    async with httpx.AsyncClient(timeout=60, trust_env=False) as http:

        async def send() -> None:
            for request in waiting:
                status, text = await answer(http, stack.graphql, token, request)
                codes.update([each for each in ("BAD_USER_INPUT", "NOT_FOUND", "CONFLICT") if f'"{each}"' in text])
                codes["answered"] += '"code"' not in text
                if status >= 500 or '"INTERNAL"' in text or "Traceback" in text:
                    wrong.append((request, status, text[:500]))

        await asyncio.gather(*(send() for _ in range(AT_ONCE)))
    assert wrong == []
    assert errors_of_the_gateway(log, begin) == []
    return codes


async def answer(http: httpx.AsyncClient, url: str, token: str, request: Request) -> tuple[int, str]:
    """The status and the text; of a stream that goes on, what came within a moment."""
    headers = {"content-type": JSON, "accept": request.accept, "authorization": f"Bearer {token}"}
    text, status = "", 0
    try:
        async with asyncio.timeout(STREAM_SECONDS if request.accept == EVENTS else 60):
            async with http.stream("POST", url, content=request.body.encode(), headers=headers) as response:
                status = response.status_code
                async for piece in response.aiter_text():
                    text += piece
    except TimeoutError:
        if request.accept != EVENTS:
            raise
    http.cookies.clear()
    return status, text


def errors_of_the_gateway(log: Path, begin: int) -> list[str]:
    """Return the lines of internal errors in requests. A failed attempt of an operation is not one of them."""
    with log.open(errors="replace") as lines:
        lines.seek(begin)
        return [line for line in lines if "execution_failed" in line or "endpoint_failed" in line]


@pytest.fixture(scope="module")
def token(dev_stack: Stack) -> str:
    """The session token of one user for all tests: the logins that these send exhaust the rate limit of the address."""
    client = Client(dev_stack)
    asyncio.run(client.log_in("grace@example.com"))
    assert client.token
    return client.token


async def test_no_value_of_an_argument_causes_an_internal_error(dev_stack: Stack, token: str) -> None:
    """The other arguments are such that services and workflows are reached."""
    file = await keep(Client(dev_stack, token), b"some words\n")
    known = {"fileId": file["id"], "email": "grace@example.com", "password": PASSWORD}
    usual = {**USUAL, **{name: json.dumps(value) for name, value in known.items()}}
    codes = await check(dev_stack, token, to_every_place(usual))
    assert min(codes[each] for each in ("BAD_USER_INPUT", "NOT_FOUND", "answered")) > len(PLACES) / 2, codes


async def test_no_value_of_a_directive_causes_an_internal_error(dev_stack: Stack, token: str) -> None:
    codes = await check(dev_stack, token, to_every_directive())
    assert min(codes[each] for each in ("BAD_USER_INPUT", "answered")) > len(DIRECTIVES), codes


async def test_no_value_beside_the_document_causes_an_internal_error(dev_stack: Stack, token: str) -> None:
    codes = await check(dev_stack, token, envelopes())
    assert min(codes[each] for each in ("BAD_USER_INPUT", "answered")) > len(ENVELOPES), codes
