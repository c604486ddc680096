"""Minimal clients for HTTP/1.1 and graphql-transport-ws, which use little CPU time themselves."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import struct
import time
from collections.abc import Callable, Mapping

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_TYPE = re.compile(rb'"type": ?"(\w+)"')
_TEXT, _CLOSE, _PING, _PONG = 0x1, 0x8, 0x9, 0xA
SUBSCRIPTION = "1"


class HttpConnection(asyncio.Protocol):
    """A kept-alive HTTP/1.1 connection with one request at a time."""

    def __init__(self) -> None:
        self._buffer = b""
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, host: str, port: int) -> HttpConnection:
        _, connection = await asyncio.get_running_loop().create_connection(cls, host, port)
        return connection

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Send the request; return status and body. Raises ConnectionError if the server closes the connection."""
        return await self._ask(b"POST", path, body, headers)

    async def get(self, path: str) -> tuple[int, bytes]:
        return await self._ask(b"GET", path, b"", {})

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    async def _ask(self, verb: bytes, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        if self._transport is None or self._transport.is_closing():
            raise ConnectionError("The server closed the connection.")
        more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f" {path} HTTP/1.1\r\nhost: localhost\r\n{more}content-length: {len(body)}\r\n\r\n"
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(verb + head.encode() + body)
        return await self._answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _LENGTH.search(self._buffer, 0, end)
        whole = end + 4 + (int(length[1]) if length else 0)
        if len(self._buffer) >= whole and self._answer is not None and not self._answer.done():
            answer = (int(self._buffer[9:12]), self._buffer[end + 4 : whole])
            self._buffer = self._buffer[whole:]
            self._answer.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("The server closed the connection."))


class Subscriber(asyncio.Protocol):
    """One websocket with one subscription. It calls ``on_message`` with the kind, time and payload of each message.

    The kind is "next", "complete", "error" or "closed". The time is that of the arrival of the bytes, in nanoseconds of
    the wall clock, before anything is parsed.
    """

    def __init__(self, host: str, init: Mapping[str, object], payload: object, on_message: MessageHandler) -> None:
        self._host = host
        self._first = _frame(json.dumps({"type": "connection_init", "payload": init}).encode())
        subscribe = {"id": SUBSCRIPTION, "type": "subscribe", "payload": payload}
        self._subscribe = _frame(json.dumps(subscribe).encode())
        self._on_message = on_message
        self._buffer = b""
        self._open = False
        self._is_closed_reported = False
        self._transport: asyncio.Transport | None = None

    def abort(self) -> None:
        """Close the connection without a closing handshake and without a call of ``on_message``."""
        self._is_closed_reported = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        key = base64.b64encode(os.urandom(16)).decode()
        transport.write(
            f"GET /graphql HTTP/1.1\r\nHost: {self._host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        now = time.time_ns()
        self._buffer = self._buffer + data if self._buffer else data
        if not self._open:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            if not self._buffer.startswith(b"HTTP/1.1 101"):
                self._close(now, self._buffer[:80])
                return
            self._open = True
            self._buffer = self._buffer[end + 4 :]
            self._write(self._first)
        while (taken := self._take()) is not None:
            self._handle(now, *taken)

    def connection_lost(self, exc: Exception | None) -> None:
        self._close(time.time_ns(), b"lost")

    def _take(self) -> tuple[int, bytes] | None:
        """Return opcode and payload of the next complete frame, or None. The servers do not mask or fragment frames."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        length, start = buffer[1] & 0x7F, 2
        if length == 126 and len(buffer) >= 4:
            length, start = int.from_bytes(buffer[2:4]), 4
        elif length == 127 and len(buffer) >= 10:
            length, start = int.from_bytes(buffer[2:10]), 10
        elif length > 125:
            return None
        end = start + length
        if len(buffer) < end:
            return None
        self._buffer = buffer[end:]
        return buffer[0] & 0x0F, buffer[start:end]

    def _handle(self, now: int, opcode: int, payload: bytes) -> None:
        if opcode == _PING:
            self._write(_frame(payload, _PONG))
        elif opcode == _CLOSE:
            self._close(now, str(int.from_bytes(payload[:2])).encode())
        elif opcode == _TEXT:
            found = _TYPE.search(payload, 0, 64)
            kind = found[1].decode() if found else json.loads(payload)["type"]
            if kind == "connection_ack":
                self._write(self._subscribe)
            elif kind == "ping":
                self._write(_frame(b'{"type":"pong"}'))
            elif kind != "pong":
                self._on_message(kind, now, payload)

    def _close(self, now: int, reason: bytes) -> None:
        if not self._is_closed_reported:
            self._is_closed_reported = True
            self._on_message("closed", now, reason)
        if self._transport is not None:
            self._transport.abort()

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


MessageHandler = Callable[[str, int, bytes], None]


def _frame(payload: bytes, opcode: int = _TEXT) -> bytes:
    """Return a client frame. It is masked with zeros, which leave the payload unchanged."""
    length = len(payload)
    if length < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | length)
    elif length < 65536:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, length)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, length)
    return head + b"\0\0\0\0" + payload
