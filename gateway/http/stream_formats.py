"""How results are written into an HTTP answer that goes on: as server-sent events, or as parts of a multipart body."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import ClassVar, Protocol

JSON_TYPE = "application/json"
RESPONSE_TYPE = "application/graphql-response+json"
"""GraphQL's own: its status says whether the request was carried out. JSON that may come from anywhere has 200."""
JSON_TYPES = frozenset((JSON_TYPE, RESPONSE_TYPE, "application/*", "*/*"))

_RECONNECT_MILLISECONDS = (200, 3000)


class StreamFormat(Protocol):
    """What is sent, in turn: ``first``, any number of results and signs of life, and one end."""

    name: ClassVar[str]
    content_type: ClassVar[str]
    first: ClassVar[str]
    sign_of_life: ClassVar[str]
    complete: ClassVar[str]

    def result(self, payload: str, cursor: str | None) -> str:
        """One result. ``payload`` is its JSON, in one line; ``cursor`` is where a client can resume after it."""

    def broken(self, errors: str) -> str:
        """An end for a reason. ``errors`` are its JSON."""

    def restarting(self, errors: str) -> str:
        """An end after which the client shall come back."""


class ServerSentEvents:
    """The graphql-sse protocol, distinct connections mode, with event ids for ``Last-Event-ID``."""

    name: ClassVar = "events"
    content_type: ClassVar = "text/event-stream; charset=utf-8"
    first: ClassVar = ":\n\n"
    sign_of_life: ClassVar = ":\n\n"
    complete: ClassVar = "event: complete\ndata:\n\n"

    def result(self, payload: str, cursor: str | None) -> str:
        name = "" if cursor is None else f"id: {cursor}\n"
        return f"event: next\n{name}data: {payload}\n\n"

    def broken(self, errors: str) -> str:
        return self.result(f'{{"errors":{errors}}}', None) + self.complete

    def restarting(self, errors: str) -> str:  # noqa: ARG002 - it says nothing: an end without "complete" is enough
        first, last = _RECONNECT_MILLISECONDS
        return f"retry: {random.randint(first, last)}\n\n"  # noqa: S311 - jitter, not a secret


class MultipartSubscription:
    """Multipart HTTP subscriptions 1.0, as Apollo Client speaks them."""

    name: ClassVar = "multipart"
    content_type: ClassVar = 'multipart/mixed;boundary="graphql";subscriptionSpec=1.0'
    first: ClassVar = "\r\n--graphql"
    sign_of_life: ClassVar = "\r\nContent-Type: application/json\r\n\r\n{}\r\n--graphql"
    complete: ClassVar = "--\r\n"

    def result(self, payload: str, cursor: str | None) -> str:  # noqa: ARG002 - it has no place for one
        return f'\r\nContent-Type: application/json\r\n\r\n{{"payload":{payload}}}\r\n--graphql'

    def broken(self, errors: str) -> str:
        part = f'{{"payload":null,"errors":{errors}}}'
        return f"\r\nContent-Type: application/json\r\n\r\n{part}\r\n--graphql{self.complete}"

    def restarting(self, errors: str) -> str:
        return self.broken(errors)  # a bare end would look like the operation's


def negotiate_stream_format(accept: str) -> StreamFormat | None:
    """What the Accept header asks for; server-sent events where it leaves the choice."""
    asked = _media_types(accept)
    if "text/event-stream" in asked:
        return ServerSentEvents()
    if asked.get("multipart/mixed", {}).get("subscriptionspec", "").startswith("1.0"):
        return MultipartSubscription()
    return None


def accepts_json(accept: str) -> bool:
    return not JSON_TYPES.isdisjoint(_media_types(accept))


def json_type(accept: str) -> str:
    """Of an answer in one piece: GraphQL's own where it is asked for at least as much as plain JSON."""
    asked = _media_types(accept)
    own, plain = (_quality(asked.get(each)) for each in (RESPONSE_TYPE, JSON_TYPE))
    return RESPONSE_TYPE if own > 0 and own >= plain else JSON_TYPE


def _quality(parameters: Mapping[str, str] | None) -> float:
    if parameters is None:
        return 0
    try:
        return float(parameters.get("q", "1"))
    except ValueError:
        return 1


def _media_types(accept: str) -> Mapping[str, Mapping[str, str]]:
    """Each type with its parameters, all in lower case."""
    found: dict[str, dict[str, str]] = {}
    for each in accept.lower().split(","):
        name, *parameters = (part.strip() for part in each.split(";"))
        pairs = (parameter.partition("=") for parameter in parameters)
        found[name] = {key.strip(): value.strip().strip("'\"") for key, _, value in pairs}
    return found
