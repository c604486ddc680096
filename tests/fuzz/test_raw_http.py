"""Malformed HTTP on a raw connection is refused or disconnected, and the next request is handled normally."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress

import httpx
import pytest

from tests.gateway.live_gateway import Gateway, wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")

BODY = b'{"query":"{ __typename }"}'
JSON = b"Content-Type: application/json\r\n"


def post(*headers: bytes, body: bytes = BODY, host: bytes = b"Host: localhost\r\n") -> bytes:
    """Return a POST request with these headers."""
    return b"POST /graphql HTTP/1.1\r\n" + host + JSON + b"".join(headers) + b"\r\n" + body


def get(line: bytes, *headers: bytes) -> bytes:
    """Return a GET request with this request line and these headers."""
    return line + b"\r\nHost: localhost\r\nConnection: close\r\n" + b"".join(headers) + b"\r\n"


def content_length(size: int) -> bytes:
    """Return a Content-Length header."""
    return b"Content-Length: %d\r\n" % size


CHUNKED = b"Transfer-Encoding: chunked\r\n"
SMUGGLED_REQUEST = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: %s\r\n"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

REFUSED: list[tuple[str, bytes, set[int]]] = [
    ("a length and chunks", post(content_length(len(SMUGGLED_REQUEST)), CHUNKED, body=SMUGGLED_REQUEST), {400}),
    ("chunks and a length", post(CHUNKED, content_length(4), body=SMUGGLED_REQUEST), {400}),
    ("two lengths", post(content_length(5), content_length(len(BODY))), {400}),
    ("two lengths in one", post(b"Content-Length: 5, 26\r\n"), {400}),
    ("a negative length", post(b"Content-Length: -1\r\n"), {400}),
    ("a length with a sign", post(b"Content-Length: +26\r\n"), {400}),
    ("a length in another base", post(b"Content-Length: 0x1a\r\n"), {400}),
    ("chunks in disguise", post(b"Transfer-Encoding: xchunked\r\n", body=SMUGGLED_REQUEST), {400, 501}),
    ("chunks twice", post(CHUNKED, CHUNKED, body=SMUGGLED_REQUEST), {400, 501}),
    ("chunks of HTTP/1.0", post(CHUNKED, body=SMUGGLED_REQUEST).replace(b"HTTP/1.1", b"HTTP/1.0", 1), {400}),
    ("space before a colon", post(b"Transfer-Encoding : chunked\r\n", body=SMUGGLED_REQUEST), {400}),
    ("a folded header", post(b"X-Long: a\r\n b\r\n", content_length(len(BODY))), {400}),
    ("chunks in a folded header", post(b"Transfer-Encoding:\r\n chunked\r\n", body=SMUGGLED_REQUEST), {400}),
    (
        "a line that ends with LF",
        post(content_length(len(BODY))).replace(b"\r\nContent-Type", b"\nContent-Type"),
        {400},
    ),
    ("CR within a header", post(b"X: a\rb\r\n", content_length(len(BODY))), {400}),
    ("all lines end with LF", b"GET /healthz HTTP/1.1\nHost: gateway\n\n", {400}),
    ("NUL in a header", get(b"GET /healthz HTTP/1.1", b"X: a\0b\r\n"), {400}),
    ("a header without a name", get(b"GET /healthz HTTP/1.1", b": a\r\n"), {400}),
    ("a header without a colon", get(b"GET /healthz HTTP/1.1", b"nonsense\r\n"), {400}),
    ("two hosts", get(b"GET /healthz HTTP/1.1", b"Host: evil.example\r\n"), {400}),
    ("no host", b"GET /healthz HTTP/1.1\r\n\r\n", {400}),
    ("an invalid host", b"GET /graphiql HTTP/1.1\r\nHost: [\r\n\r\n", {400}),
    ("a host with a path", b"GET /graphiql HTTP/1.1\r\nHost: gateway/@evil.example\r\n\r\n", {400}),
    ("a huge header", get(b"GET /healthz HTTP/1.1", b"X: " + b"a" * 100_000 + b"\r\n"), {400, 431}),
    ("a head of 30 KB at once", get(b"GET /healthz HTTP/1.1", b"X: " + b"a" * 30_000 + b"\r\n"), {431}),
    ("120 headers", get(b"GET /healthz HTTP/1.1", b"X: a\r\n" * 120), {431}),
    ("ten thousand headers", get(b"GET /healthz HTTP/1.1", b"X: a\r\n" * 10_000), {400, 431}),
    ("a huge address", get(b"GET /" + b"a" * 100_000 + b" HTTP/1.1"), {400, 414, 431}),
    ("no version", b"GET /healthz\r\n\r\n", {400}),
    ("an unknown version", get(b"GET /healthz HTTP/3.7"), {400, 505}),
    ("too many words in the request line", get(b"GET /healthz HTTP/1.1 and more"), {400}),
    ("the address of another host", get(b"GET http://evil.example/healthz HTTP/1.1"), {400, 404, 421}),
    (
        "CONNECT",
        b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\nConnection: close\r\n\r\n",
        {400, 404, 405, 421},
    ),
    ("TRACE", get(b"TRACE /graphql HTTP/1.1"), {405}),
    ("invalid percent encoding", get(b"GET /%zz%00%ff%c0%af..%2f HTTP/1.1"), {400, 404}),
    ("a path outside the assets", get(b"GET /graphiql/assets/..%2f..%2f..%2fetc%2fpasswd HTTP/1.1"), {404}),
    ("a path that is not ASCII", get("GET /grüße HTTP/1.1".encode()), {400}),
    ("a chunk with an invalid size", post(CHUNKED, body=b"zz\r\nabc\r\n0\r\n\r\n"), {400}),
    ("a chunk with a negative size", post(CHUNKED, body=b"-5\r\nabc\r\n0\r\n\r\n"), {400}),
    ("a chunk of a huge size", post(CHUNKED, body=b"f" * 40 + b"\r\nabc\r\n0\r\n\r\n"), {400, 413}),
    ("a chunk that is longer than its size", post(CHUNKED, body=b"3\r\nabcdef\r\n0\r\n\r\n"), {400}),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100 + b"\r\n\r\n", {400}),
    ("zeros", b"\0" * 5000, {400}),
    (
        "an incomplete websocket handshake",
        get(b"GET /graphql HTTP/1.1", b"Upgrade: websocket\r\nConnection: Upgrade\r\n"),
        {400},
    ),
]

DISCONNECTED: list[tuple[str, bytes]] = [
    ("a preface and garbage", PREFACE + b"\xff" * 100),
    ("a preface and no settings", PREFACE + b"\0\0\4\x08\0\0\0\0\0\0\0\0\0"),
    ("a preface alone", PREFACE),
    (
        "a preface and a frame that does not end",
        PREFACE + b"\0\0\0\4\0\0\0\0\0" + b"\xff\xff\xff\0\0\0\0\0\1" + b"x" * 100,
    ),
    ("headers that cannot be decompressed", PREFACE + b"\0\0\0\4\0\0\0\0\0" + b"\0\0\4\1\5\0\0\0\1\xff\xff\xff\xff"),
    ("half a preface", b"PRI * HTTP/2.0\r\n\r\nSX\r\n\r\n" + b"x" * 100),
]


@pytest.mark.parametrize(("sent", "statuses"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
async def test_refuses_malformed_requests(gateway: Gateway, sent: bytes, statuses: set[int]) -> None:
    response = await statuses_of(gateway, sent)
    assert len(response) == 1, "the bytes behind the request were handled as another request"
    assert set(response) <= statuses
    await check_that_the_gateway_responds(gateway)


@pytest.mark.parametrize("sent", [case[1] for case in DISCONNECTED], ids=[case[0] for case in DISCONNECTED])
async def test_disconnects_malformed_http_2(gateway: Gateway, sent: bytes) -> None:
    assert await statuses_of(gateway, sent) == []
    await check_that_the_gateway_responds(gateway)


@pytest.mark.parametrize("settings", [b"", b"AAMAAABkAAQAAP__", b"!!!", b"x" * 5000])
async def test_ignores_upgrades_to_http_2(gateway: Gateway, settings: bytes) -> None:
    upgraded = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + UPGRADE % settings + b"\r\n"
    assert await statuses_of(gateway, upgraded + get(b"GET /healthz HTTP/1.1")) == [200, 200]
    await check_that_the_gateway_responds(gateway)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\r\n",
        b"G",
        b"GET /healthz HTTP/1.1\r\nHost: gat",
        post(content_length(1000), body=BODY),
        post(CHUNKED, body=b"5\r\nab"),
        post(b"Expect: 100-continue\r\n", content_length(1000), body=b""),
        PREFACE,
    ],
)
async def test_disconnect_during_a_request_has_no_effect_on_others(gateway: Gateway, sent: bytes) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(sent)
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.transport.abort()
    await check_that_the_gateway_responds(gateway)


@pytest.mark.parametrize("path", [b"/healthz", b"/nope"])
async def test_client_that_sends_more_than_is_read_gets_its_response(gateway: Gateway, path: bytes) -> None:
    before = len(asyncio.all_tasks())
    sent = post(CHUNKED, body=b"1\r\na\r\n" * 1000).replace(b"/graphql", path)
    assert len(await statuses_of(gateway, sent)) == 1
    await wait_until(lambda: len(asyncio.all_tasks()) <= before, 5)


async def statuses_of(gateway: Gateway, sent: bytes) -> list[int]:
    """Send the bytes and return the statuses of all responses until the gateway closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    received = b""
    with suppress(ConnectionError):
        writer.write(sent)
        async with asyncio.timeout(15):
            while chunk := await reader.read(65536):
                received += chunk
    writer.transport.abort()
    return [int(status) for status in re.findall(rb"HTTP/1\.1 ([2-5]\d\d)", received)]


async def check_that_the_gateway_responds(gateway: Gateway) -> None:
    """Check that the gateway still executes a valid request."""
    async with httpx.AsyncClient() as client:
        response = await client.post(
            f"{gateway.http}/graphql", content=BODY, headers={"content-type": "application/json"}
        )
        assert response.json() == {"data": {"__typename": "Query"}}
