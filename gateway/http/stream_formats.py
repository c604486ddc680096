"""The formats of HTTP responses that stream results (server-sent events and multipart), and their negotiation."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import ClassVar, Protocol

JSON_TYPE = "application/json"
GRAPHQL_RESPONSE_TYPE = "application/graphql-response+json"
"""The media type of GraphQL over HTTP. With it the status code says whether the request was executed; a response of
type ``application/json`` has status 200 for each well-formed request.
"""
JSON_TYPES = frozenset((JSON_TYPE, GRAPHQL_RESPONSE_TYPE, "application/*", "*/*"))
"""Values of ``Accept`` that allow a response in JSON."""

_RECONNECT_MILLISECONDS = (200, 3000)
"""Bounds of the random delay after which a client of server-sent events reconnects."""


class StreamFormat(Protocol):
    """The texts of one streamed response: a preamble, any number of results and heartbeats, and one end.

    The end is ``complete``, or the text of ``error`` or ``restart``.
    """

    name: ClassVar[str]
    content_type: ClassVar[str]
    preamble: ClassVar[str]
    heartbeat: ClassVar[str]
    complete: ClassVar[str]

    def result(self, payload: str, cursor: str | None) -> str:
        """Return the text of one result.

        Args:
            payload: the result as JSON in one line.
            cursor: the cursor from which a client can resume the stream after this result; None: it cannot.
        """

    def error(self, errors: str) -> str:
        """Return the text that ends the stream with GraphQL errors. ``errors`` is a JSON list in one line."""

    def restart(self, errors: str) -> str:
        """Return the text that ends the stream and makes the client reconnect. ``errors``: as for ``error``."""


class ServerSentEvents:
    """Server-sent events of the graphql-sse protocol, distinct connections mode, with ids for ``Last-Event-ID``."""

    name: ClassVar = "events"
    content_type: ClassVar = "text/event-stream; charset=utf-8"
    preamble: ClassVar = ":\n\n"
    heartbeat: ClassVar = ":\n\n"
    complete: ClassVar = "event: complete\ndata:\n\n"

    def result(self, payload: str, cursor: str | None) -> str:
        event_id = "" if cursor is None else f"id: {cursor}\n"
        return f"event: next\n{event_id}data: {payload}\n\n"

    def error(self, errors: str) -> str:
        return self.result(f'{{"errors":{errors}}}', None) + self.complete

    def restart(self, errors: str) -> str:  # noqa: ARG002 - a client reconnects after a stream without "complete"
        shortest, longest = _RECONNECT_MILLISECONDS
        return f"retry: {random.randint(shortest, longest)}\n\n"  # noqa: S311 - jitter, not a secret


class MultipartSubscription:
    """Multipart HTTP subscriptions 1.0, the protocol of Apollo Client."""

    name: ClassVar = "multipart"
    content_type: ClassVar = 'multipart/mixed;boundary="graphql";subscriptionSpec=1.0'
    preamble: ClassVar = "\r\n--graphql"
    heartbeat: ClassVar = "\r\nContent-Type: application/json\r\n\r\n{}\r\n--graphql"
    complete: ClassVar = "--\r\n"

    def result(self, payload: str, cursor: str | None) -> str:  # noqa: ARG002 - the protocol has no cursors
        return f'\r\nContent-Type: application/json\r\n\r\n{{"payload":{payload}}}\r\n--graphql'

    def error(self, errors: str) -> str:
        part = f'{{"payload":null,"errors":{errors}}}'
        return f"\r\nContent-Type: application/json\r\n\r\n{part}\r\n--graphql{self.complete}"

    def restart(self, errors: str) -> str:
        return self.error(errors)  # without errors the client would consider the operation complete


def negotiate_stream_format(accept: str) -> StreamFormat | None:
    """Return the format that the header Accept requests; None if it requests none.

    If the header allows both formats, the function returns server-sent events.
    """
    accepted = _media_types(accept)
    if "text/event-stream" in accepted:
        return ServerSentEvents()
    if accepted.get("multipart/mixed", {}).get("subscriptionspec", "").startswith("1.0"):
        return MultipartSubscription()
    return None


def accepts_json(accept: str) -> bool:
    """Return whether the header Accept allows a response in JSON."""
    return not JSON_TYPES.isdisjoint(_media_types(accept))


def json_type(accept: str) -> str:
    """Return the media type of a JSON response: GraphQL's own unless the client prefers plain JSON."""
    accepted = _media_types(accept)
    graphql, plain = (_quality(accepted.get(each)) for each in (GRAPHQL_RESPONSE_TYPE, JSON_TYPE))
    return GRAPHQL_RESPONSE_TYPE if graphql > 0 and graphql >= plain else JSON_TYPE


def _quality(parameters: Mapping[str, str] | None) -> float:
    if parameters is None:
        return 0
    try:
        return float(parameters.get("q", "1"))
    except ValueError:
        return 1


def _media_types(accept: str) -> Mapping[str, Mapping[str, str]]:
    """Return the parameters of each media type, all in lower case."""
    found: dict[str, dict[str, str]] = {}
    for each in accept.lower().split(","):
        name, *parameters = (part.strip() for part in each.split(";"))
        pairs = (parameter.partition("=") for parameter in parameters)
        found[name] = {key.strip(): value.strip().strip("'\"") for key, _, value in pairs}
    return found


def accepts_incremental_delivery(accept: str) -> bool:
    """Return whether the client accepts ``multipart/mixed`` for incremental delivery.

    With the parameter ``subscriptionSpec`` the client accepts that type for the results of a subscription only.
    """
    accepted = (each.strip().lower() for each in accept.split(","))
    return any(
        each.partition(";")[0].strip() == "multipart/mixed" and "subscriptionspec" not in each for each in accepted
    )
