"""Reading event streams in tests: server-sent events and multipart bodies, over HTTP/1.1 or HTTP/2."""

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
    """``kind`` is next, complete, retry or heartbeat."""

    kind: str
    id: str | None = None
    data: Any = None
    retry: int | None = None
    codes: list[str] = field(init=False)

    def __post_init__(self) -> None:
        errors = self.data.get("errors", []) if isinstance(self.data, dict) else []
        self.codes = [error["extensions"]["code"] for error in errors]


@asynccontextmanager
async def following(
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
    """The events of an answer that is asserted to be one of that kind, heartbeats included."""
    told = {"accept": accept, **(headers or {})} | ({} if token is None else {"authorization": f"Bearer {token}"})
    asked: dict[str, Any] = {"query": query, "variables": variables}
    if method == "GET":
        asked["variables"] = json.dumps(variables)
    way: dict[str, Any] = {"params": asked} if method == "GET" else {"json": asked}
    timeout = httpx.Timeout(20)
    address = url or f"{gateway.http}/graphql"
    async with client.stream(method, address, headers=told, timeout=timeout, **way) as answer:
        assert answer.status_code == 200, (await answer.aread()).decode()
        assert answer.http_version == version
        kind = answer.headers["content-type"]
        if kind.startswith("text/event-stream"):
            yield _events(answer)
        else:
            assert kind == 'multipart/mixed;boundary="graphql";subscriptionSpec=1.0'
            yield _parts(answer)


async def _events(answer: httpx.Response) -> AsyncIterator[Event]:
    """By the rules of the HTML standard, 9.2.6."""
    fields: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if line == "":
            if fields:
                yield _event(fields)
            fields = {}
        elif line.startswith(":"):
            yield Event("heartbeat")
        else:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")


def _event(fields: dict[str, str]) -> Event:
    if "retry" in fields:
        return Event("retry", retry=int(fields["retry"]))
    data = json.loads(fields["data"]) if fields["data"] else None
    return Event(fields["event"], id=fields.get("id"), data=data)


async def _parts(answer: httpx.Response) -> AsyncIterator[Event]:
    """As Apollo Client does: each part ends where the next boundary stands."""
    buffer, boundary = "", "\r\n--graphql"
    async for text in answer.aiter_text():
        buffer += text
        while boundary in buffer:
            part, _, buffer = buffer.partition(boundary)
            _, _, body = part.partition("\r\n\r\n")
            if not body:
                continue
            assert "Content-Type: application/json" in part
            told = json.loads(body)
            if told == {}:
                yield Event("heartbeat")
            else:
                yield Event(
                    "next", data={**(told["payload"] or {}), **({"errors": told["errors"]} if "errors" in told else {})}
                )
    assert buffer == "--\r\n", f"the body ends with {buffer!r}"
    yield Event("complete")
