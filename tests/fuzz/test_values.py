"""No value of an argument or a directive causes an internal error of the product.

``FUZZ_VALUES=all`` sends each value to each argument in both forms; otherwise each argument gets an eighth of them.
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
from tests.end_to_end.files import upload_file
from tests.fuzz.values import DEFAULT_VALUES, VALUES, as_graphql, document, slots
from tests.stack import ROOT, Stack

SCHEMA = build_schema((ROOT / "schema.graphql").read_text())
SLOTS = list(slots(SCHEMA))
STEP = 1 if os.environ.get("FUZZ_VALUES") == "all" else 8
MAX_CONCURRENT_REQUESTS = 8
STREAM_SECONDS = 0.5
JSON = "application/json"
MULTIPART = "multipart/mixed;deferSpec=20220824, application/json"
EVENTS = "text/event-stream"

DIRECTIVES = tuple(
    f"@{name}({argument}: {{}})"
    for name, argument in (
        *(("include", "if"), ("skip", "if"), ("defer", "if"), ("defer", "label"), ("nope", "if")),
        *(("stream", "if"), ("stream", "label"), ("stream", "initialCount"), ("specifiedBy", "url")),
    )
)
DOCUMENTS_WITH_DIRECTIVES = (
    "query{v} {{ viewer {{ ... {d} {{ user {{ name }} }} }} }}",
    "query{v} {{ viewer {{ sessions {d} {{ id tenant {{ name }} }} }} }}",
    "query{v} {{ viewer {{ tenantOverview {{ permissions {d} availableTenants {d} {{ id }} }} }} }}",
    "query{v} {d} {{ ...F {d} }} fragment F on Query {d} {{ viewer {{ user {{ id }} }} }}",
    "mutation{v} {{ ... {d} {{ updatePreferences(input: {{}}) {{ preferences {d} {{ language }} }} }} }}",
    'subscription{v} {{ ... {d} {{ operation(id: "x") {d} {{ id }} }} }}',
)
DIRECTIVE_VALUES = ("null", "true", "-1", "0", "99999999999", "1e400", '""', r'"\ud800"', "[]", "{}", "X")
VARIABLES = (("Int", "-1"), ("Int", "null"), ("Int = -1", None), ("Int = null", None), ("Boolean", "null"))
INVALID_DOCUMENTS = (
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
BODY_FIELDS = ("operationName", "variables", "extensions", "query", "documentId")
BODY_FIELD_VALUES = (
    "null",
    "true",
    "1e400",
    "NaN",
    '""',
    r'"\u0000"',
    r'"\ud800"',
    "[]",
    '{"persistedQuery":{"x":[]}}',
)


class Request(NamedTuple):
    """A request body as text, and its Accept header."""

    body: str
    accept: str = JSON


def request_with(query: str, variable: str | None = None, accept: str = JSON) -> Request:
    """Return a request with this document; ``variable`` is the JSON value of ``$v``."""
    more = "" if variable is None else f',"variables":{{"v":{variable}}}'
    return Request(f'{{"query":{json.dumps(query)}{more}}}', accept)


def requests_for_slots(default_values: dict[str, str]) -> Iterator[Request]:
    """Yield requests that put each value into each argument, as a literal and as a variable."""
    for number, slot in enumerate(SLOTS):
        accept = EVENTS if slot.root == "subscription" else JSON
        for value in VALUES[number % STEP :: STEP]:
            literal = as_graphql(value)
            if literal is not None:
                yield request_with(document(SCHEMA, slot, literal, default_values=default_values), accept=accept)
            query = document(SCHEMA, slot, "$v", declared=str(slot.type), default_values=default_values)
            yield request_with(query, value, accept)


def requests_for_directives() -> Iterator[Request]:
    """Yield requests that put each value into each argument of a directive."""
    for text in DOCUMENTS_WITH_DIRECTIVES:
        for directive in DIRECTIVES:
            for value in DIRECTIVE_VALUES:
                yield request_with(text.format(v="", d=directive.format(value)), accept=MULTIPART)
            for type_, value_of in VARIABLES:
                yield request_with(text.format(v=f" ($v: {type_})", d=directive.format("$v")), value_of, MULTIPART)
    for text in INVALID_DOCUMENTS:
        for accept in (JSON, MULTIPART, EVENTS):
            yield request_with(text, accept=accept)


def requests_for_body_fields() -> Iterator[Request]:
    """Yield requests that put each value into each field of the request body."""
    for name in BODY_FIELDS:
        for value in BODY_FIELD_VALUES:
            for accept in (JSON, MULTIPART, EVENTS):
                query = "" if name == "query" else '"query":"query A { __typename }",'
                yield Request(f'{{{query}"{name}":{value}}}', accept)


async def send_all(stack: Stack, token: str, requests: Iterable[Request]) -> Counter[str]:
    """Send all requests; fail if a response is INTERNAL or 5xx, or if the gateway logs an error.

    Returns:
        The number of responses by error code.
    """
    log = stack.data_dir / "stack.log"
    offset, failures, codes = log.stat().st_size, [], Counter[str]()
    remaining = iter(requests)
    async with httpx.AsyncClient(timeout=60, trust_env=False) as http:

        async def send_bytes() -> None:
            for request in remaining:
                status, text = await post(http, stack.graphql, token, request)
                codes.update([each for each in ("BAD_USER_INPUT", "NOT_FOUND", "CONFLICT") if f'"{each}"' in text])
                codes["answered"] += '"code"' not in text
                if status >= 500 or '"INTERNAL"' in text or "Traceback" in text:
                    failures.append((request, status, text[:500]))

        await asyncio.gather(*(send_bytes() for _ in range(MAX_CONCURRENT_REQUESTS)))
    assert failures == []
    assert internal_errors(log, offset) == []
    return codes


async def post(http: httpx.AsyncClient, url: str, token: str, request: Request) -> tuple[int, str]:
    """Return status and text of the response; of an endless stream, the text of the first half second."""
    headers = {"content-type": JSON, "accept": request.accept, "authorization": f"Bearer {token}"}
    text, status = "", 0
    try:
        async with asyncio.timeout(STREAM_SECONDS if request.accept == EVENTS else 60):
            async with http.stream("POST", url, content=request.body.encode(), headers=headers) as response:
                status = response.status_code
                async for chunk in response.aiter_text():
                    text += chunk
    except TimeoutError:
        if request.accept != EVENTS:
            raise
    http.cookies.clear()
    return status, text


def internal_errors(log: Path, offset: int) -> list[str]:
    """Return the log lines of internal errors in requests, without failed attempts of operations."""
    with log.open(errors="replace") as lines:
        lines.seek(offset)
        return [line for line in lines if "execution_failed" in line or "endpoint_failed" in line]


@pytest.fixture(scope="module")
def token(dev_stack: Stack) -> str:
    """The session token of one user for all tests, because their logins exhaust the rate limit of the address."""
    client = Client(dev_stack)
    asyncio.run(client.log_in("grace@example.com"))
    assert client.token
    return client.token


async def test_no_value_of_an_argument_causes_an_internal_error(dev_stack: Stack, token: str) -> None:
    """All other arguments are valid, so that services and workflows are reached."""
    file = await upload_file(Client(dev_stack, token), b"some words\n")
    valid_values = {"fileId": file["id"], "email": "grace@example.com", "password": PASSWORD}
    default_values = {**DEFAULT_VALUES, **{name: json.dumps(value) for name, value in valid_values.items()}}
    codes = await send_all(dev_stack, token, requests_for_slots(default_values))
    assert min(codes[each] for each in ("BAD_USER_INPUT", "NOT_FOUND", "answered")) > len(SLOTS) / 2, codes


async def test_no_value_of_a_directive_causes_an_internal_error(dev_stack: Stack, token: str) -> None:
    codes = await send_all(dev_stack, token, requests_for_directives())
    assert min(codes[each] for each in ("BAD_USER_INPUT", "answered")) > len(DIRECTIVES), codes


async def test_no_value_in_the_request_body_causes_an_internal_error(dev_stack: Stack, token: str) -> None:
    codes = await send_all(dev_stack, token, requests_for_body_fields())
    assert min(codes[each] for each in ("BAD_USER_INPUT", "answered")) > len(BODY_FIELDS), codes
