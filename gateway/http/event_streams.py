"""Subscriptions over HTTP without websockets: one response that streams the results of a subscription."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing, closing
from dataclasses import dataclass

from graphql import DocumentNode, GraphQLError, OperationType, get_operation_ast
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from contracts.auth import Session
from contracts.errors import DomainError, ServiceUnavailable, SessionEnded
from gateway.connection_registry import ConnectionRegistry, KeepAliveSettings
from gateway.http.json_decoding import encode_json
from gateway.http.stream_formats import ServerSentEvents, StreamFormat
from gateway.sessions.session_monitor import SessionBinding, SessionMonitor
from gateway.subscription_multiplexer import SerializedResult, StreamedResults, StreamInterrupted, serialize_result
from infrastructure.tasks import wait_for_first
from resolvers.context import Context
from schema.errors import translate


@dataclass(frozen=True)
class StreamedSubscription:
    """A subscription that has been started for an HTTP request.

    Attributes:
        results: yields the results.
        stream_format: the format of the response.
        context: the context of the execution.
        session: the session with which the subscription was started; None if the request has no session.
    """

    results: StreamedResults
    stream_format: StreamFormat
    context: Context
    session: Session | None


class EventStream:
    """An ASGI response that streams the results of one subscription and cancels it when the client disconnects.

    When the session ends, the stream ends with an UNAUTHENTICATED error. When the process stops, the stream ends
    without ``complete``, so that the client reconnects.
    """

    def __init__(
        self,
        subscription: StreamedSubscription,
        streams: ConnectionRegistry,
        keep_alive: KeepAliveSettings,
        session_monitor: SessionMonitor,
    ) -> None:
        self._results = subscription.results
        self._format = subscription.stream_format
        self._context = subscription.context
        self._session = subscription.session
        self._streams = streams
        self._keep_alive = keep_alive
        self._session_monitor = session_monitor
        self._ending: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._ended = asyncio.Event()
        self._sent_at = asyncio.get_running_loop().time()
        self._pending_writes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        self._send = send
        try:
            with self._streams.register(self), closing(self._bind_session()):
                await self._serve(receive)
        finally:
            self._ended.set()

    def check_liveness(self, now: float) -> None:
        """Send a heartbeat if nothing was sent for the ping interval. End the stream if a write exceeds its timeout."""
        elapsed = now - self._sent_at
        if self._pending_writes:
            if elapsed >= self._keep_alive.write_timeout_seconds:
                self._end("")
        elif elapsed >= self._keep_alive.ping_interval_seconds:
            self._streams.start(self._write(self._format.heartbeat))

    async def close_for_restart(self) -> None:
        """End the stream in a way that makes the client reconnect, and wait until the response has ended."""
        self._end(self._restart_text())
        await self._ended.wait()

    async def _serve(self, receive: Receive) -> None:
        headers = [
            (b"content-type", self._format.content_type.encode()),
            (b"cache-control", b"no-cache, no-transform"),
            (b"x-accel-buffering", b"no"),  # otherwise nginx buffers events until its buffer is full
        ]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        is_disconnected = (
            await wait_for_first(wait_for_disconnect(receive), self._write_results(), self._wait_for_ending()) == 0
        )
        if not is_disconnected:
            await self._finish()

    async def _wait_for_ending(self) -> None:
        await asyncio.wait((self._ending,))

    async def _finish(self) -> None:
        if self._pending_writes:  # nothing can follow a text that has been sent in part
            return
        if self._ending.done():
            await self._write(self._ending.result())
        await self._send({"type": "http.response.body", "body": b""})

    async def _write_results(self) -> None:
        subscription, operations = self._context.subscription, self._context.backend.operations
        await self._write(self._format.preamble)
        try:
            async with aclosing(self._results) as results:
                async for result in results:
                    is_serialized = isinstance(result, SerializedResult)
                    payload = result.payload if is_serialized else serialize_result(result)
                    state = result.state if is_serialized else result.data and subscription.latest
                    await self._write(self._format.result(payload, operations.cursor(state) if state else None))
        except StreamInterrupted:
            self._end(self._restart_text())
        else:
            self._end(self._format.complete)
        finally:
            subscription.mark_started()

    async def _write(self, text: str) -> None:
        self._pending_writes += 1
        self._sent_at = asyncio.get_running_loop().time()
        await self._send({"type": "http.response.body", "body": text.encode(), "more_body": True})
        self._pending_writes -= 1  # not in a finally block: a cancelled write may have sent a part of the text

    def _end(self, text: str) -> None:
        """End the stream with this last text, unless it is ending already."""
        if not self._ending.done():
            self._ending.set_result(text)

    def _bind_session(self) -> SessionBinding:
        binding = SessionBinding(self._session_monitor, self._context, self._end_with_session, self._streams.start)
        if self._session is not None and self._context.token is not None:
            binding.bind(self._context.token, self._session)
        return binding

    async def _end_with_session(self) -> None:
        self._end(self._format.error(self._errors(SessionEnded())))

    def _restart_text(self) -> str:
        return self._format.restart(self._errors(ServiceUnavailable(service="gateway")))

    def _errors(self, error: DomainError) -> str:
        errors = translate([GraphQLError("", original_error=error)], self._context.request_id)
        return encode_json([each.formatted for each in errors])


def is_subscription(document: DocumentNode | None, operation_name: str | None) -> bool | None:
    """Return whether the operation is a subscription; None if the document does not have exactly one such operation."""
    operation = document and get_operation_ast(document, operation_name)
    return operation.operation is OperationType.SUBSCRIPTION if operation else None


def as_single_event_stream(response: Response) -> Response:
    """Return the response to a query or mutation as a stream of one event; an error response is returned unchanged."""
    if response.status_code != 200 or not isinstance(response.body, bytes):
        return response
    events = ServerSentEvents()
    body = events.result(response.body.decode(), None) + events.complete
    headers: Mapping[str, str] = {"content-type": events.content_type, "cache-control": "no-cache, no-transform"}
    streamed = Response(body, headers=headers)
    streamed.raw_headers += [(name, value) for name, value in response.raw_headers if name == b"set-cookie"]
    return streamed


async def wait_for_disconnect(receive: Receive) -> None:
    """Return once the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass
