"""The HTTP/1.1 protocol of hypercorn, which also refuses ambiguous requests (request smuggling) and large heads."""

from __future__ import annotations

import re

import h11
from hypercorn.events import Closed, Event
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.ws_stream import WSStream

from gateway.server.request_head import HOST, MAX_HEAD_BYTES, MAX_HEADERS

_END_OF_HEAD = re.compile(rb"\n\r?\n")
_AMBIGUOUS = re.compile(rb"(?<!\r)\n|\r(?!\n)|\n[ \t]|\x00")
"""A line end without CR or without LF, a folded line (RFC 9112, 5.2), or a NUL character."""


class Http1(H11Protocol):
    """The protocol of one connection that uses HTTP/1.1, including a websocket."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.connection = _StrictConnection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)

    @property
    def has_partial_head(self) -> bool:
        """Whether the head of a request has begun and is not complete."""
        is_http = isinstance(self.connection, h11.Connection)
        return is_http and self.connection.their_state is h11.IDLE and bool(self.connection.trailing_data[0])

    async def handle(self, event: Event) -> None:
        """Handle the event, and close a connection whose handshake was refused: hypercorn would leave it open."""
        await super().handle(event)
        if isinstance(self.stream, WSStream) and self.stream.closed:
            await self.send(Closed())


class _StrictConnection(h11.Connection):
    """Raises RemoteProtocolError for heads that are ambiguous or too large."""

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        if self.their_state is h11.IDLE:
            buffered, _ = self.trailing_data
            end = _END_OF_HEAD.search(buffered)
            if end is not None and end.end() > MAX_HEAD_BYTES:
                raise h11.RemoteProtocolError("The head is too large", error_status_hint=431)
            if end is not None and _AMBIGUOUS.search(buffered, 0, end.end()):
                raise h11.RemoteProtocolError("A line of the head is malformed")
        event = super().next_event()
        return _validate_head(event) if isinstance(event, h11.Request) else event


def _validate_head(request: h11.Request) -> h11.Request:
    """Return the request without the headers that offer an upgrade to HTTP/2.

    Raises:
        h11.RemoteProtocolError: the head is too large or ambiguous, or the HTTP version is not supported.
    """
    if request.http_version not in (b"1.0", b"1.1") and request.method != b"PRI":
        raise h11.RemoteProtocolError("The version is not supported", error_status_hint=505)
    if len(request.headers) > MAX_HEADERS:
        raise h11.RemoteProtocolError("The head is too large", error_status_hint=431)
    names = {name for name, _ in request.headers}
    if b"transfer-encoding" in names and (b"content-length" in names or request.http_version < b"1.1"):
        raise h11.RemoteProtocolError("The body has two lengths")
    for name, value in request.headers:
        if name == b"host" and not HOST.fullmatch(value):
            raise h11.RemoteProtocolError("The host is malformed")
    if b"upgrade" not in names:
        return request
    headers = [
        (name, value)
        for name, value in request.headers
        if name != b"http2-settings" and not (name == b"upgrade" and value.strip().lower() != b"websocket")
    ]
    return h11.Request(method=request.method, headers=headers, target=request.target, http_version=request.http_version)
