"""A client of event streams: server-sent events and multipart bodies, over HTTP/1.1 or HTTP/2."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.gateway.fakes import TOKEN
from tests.gateway.live_gateway import Gateway

SSE = "text/event-stream"
MULTIPART = 'multipart/mixed;boundary="graphql";subscriptionSpec=1.0,application/json'


@dataclass
class Event:
    """One event of a stream; ``kind`` is next, complete, retry or heartbeat."""

    kind: str
    id: str | None = None
    data: Any = None
    retry: int | None = None
    codes: list[str] = field(init=False)

    def __post_init__(self) -> None:
        errors = self.data.get("errors", []) if isinstance(self.data, dict) else []
        self.codes = [error["extensions"]["code"] for error in errors]


@asynccontextmanager
async def open_event_stream(
    client: httpx.AsyncClient,
    gateway: Gateway,
    query: str,
    *,
    accept: str = SSE,
    token: str | None = TOKEN,
    headers: dict[str, str] | None = None,
    method: str = "POST",
    url: str | None = None,
    version: str = "HTTP/1.1",
    **variables: object,
) -> AsyncIterator[AsyncIterator[Event]]:
    """Open a stream that must have the accepted media type; yield its events, including heartbeats."""
    request_headers = {"accept": accept, **(headers or {})} | (
        {} if token is None else {"authorization": f"Bearer {token}"}
    )
    payload: dict[str, Any] = {"query": query, "variables": variables}
    if method == "GET":
        payload["variables"] = json.dumps(variables)
    request_arguments: dict[str, Any] = {"params": payload} if method == "GET" else {"json": payload}
    timeout = httpx.Timeout(20)
    endpoint = url or f"{gateway.http}/graphql"
    async with client.stream(
        method, endpoint, headers=request_headers, timeout=timeout, **request_arguments
    ) as response:
        assert response.status_code == 200, (await response.aread()).decode()
        assert response.http_version == version
        kind = response.headers["content-type"]
        if kind.startswith("text/event-stream"):
            yield _server_sent_events(response)
        else:
            assert kind == 'multipart/mixed;boundary="graphql";subscriptionSpec=1.0'
            yield _multipart_events(response)


async def _server_sent_events(response: httpx.Response) -> AsyncIterator[Event]:
    """Parse events by the rules of the HTML standard, section 9.2.6."""
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line == "":
            if fields:
                yield _parse_event(fields)
            fields = {}
        elif line.startswith(":"):
            yield Event("heartbeat")
        else:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")


def _parse_event(fields: dict[str, str]) -> Event:
    """Return the event with these fields."""
    if "retry" in fields:
        return Event("retry", retry=int(fields["retry"]))
    data = json.loads(fields["data"]) if fields["data"] else None
    return Event(fields["event"], id=fields.get("id"), data=data)


async def _multipart_events(response: httpx.Response) -> AsyncIterator[Event]:
    """Parse parts as Apollo Client does: each part ends at the next boundary."""
    buffer, boundary = "", "\r\n--graphql"
    async for text in response.aiter_text():
        buffer += text
        while boundary in buffer:
            part, _, buffer = buffer.partition(boundary)
            _, _, body = part.partition("\r\n\r\n")
            if not body:
                continue
            assert "Content-Type: application/json" in part
            part_body = json.loads(body)
            if part_body == {}:
                yield Event("heartbeat")
            else:
                yield Event(
                    "next",
                    data={
                        **(part_body["payload"] or {}),
                        **({"errors": part_body["errors"]} if "errors" in part_body else {}),
                    },
                )
    assert buffer == "--\r\n", f"the body ends with {buffer!r}"
    yield Event("complete")
