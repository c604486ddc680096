"""Subscriptions over plain HTTP, for networks without websockets: one answer that goes on until its stream ends."""

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
from gateway.subscription_multiplexer import SerializedResult, StreamedResults, StreamInterrupted, payload_of
from infrastructure.tasks import wait_for_first
from resolvers.context import Context
from schema.errors import translate


@dataclass(frozen=True)
class StreamedSubscription:
    """``session`` is the one that the stream was started with; None if the request carries none."""

    results: StreamedResults
    wire: StreamFormat
    context: Context
    session: Session | None


class EventStream:
    """An ASGI answer: the results of one subscription. Where the client goes, the subscription ends.

    It ends with an UNAUTHENTICATED error once the session has ended, without a ``complete`` where the process stops.
    """

    def __init__(
        self,
        subscription: StreamedSubscription,
        streams: ConnectionRegistry,
        patience: KeepAliveSettings,
        sessions: SessionMonitor,
    ) -> None:
        self._results = subscription.results
        self._wire = subscription.wire
        self._context = subscription.context
        self._session = subscription.session
        self._streams = streams
        self._patience = patience
        self._sessions = sessions
        self._last_words: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._ended = asyncio.Event()
        self._sent_at = asyncio.get_running_loop().time()
        self._sending = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        self._send = send
        try:
            with self._streams.including(self), closing(self._binding()):
                await self._serve(receive)
        finally:
            self._ended.set()

    def tend(self, now: float) -> None:
        """Give a sign of life where nothing was sent for a while, or give up a client that takes nothing."""
        waited = now - self._sent_at
        if self._sending:
            if waited >= self._patience.write_timeout_seconds:
                self._end("")
        elif waited >= self._patience.ping_interval_seconds:
            self._streams.start(self._write(self._wire.sign_of_life))

    async def restart(self) -> None:
        self._end(self._restarting())
        await self._ended.wait()

    async def _serve(self, receive: Receive) -> None:
        headers = [
            (b"content-type", self._wire.content_type.encode()),
            (b"cache-control", b"no-cache, no-transform"),
            (b"x-accel-buffering", b"no"),  # nginx would keep events back until it has a bufferful
        ]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        has_left = (
            await wait_for_first(wait_for_disconnect(receive), self._write_results(), self._wait_for_last_words()) == 0
        )
        if not has_left:
            await self._finish()

    async def _wait_for_last_words(self) -> None:
        await asyncio.wait((self._last_words,))

    async def _finish(self) -> None:
        if self._sending:  # what is half sent cannot be followed by anything
            return
        if self._last_words.done():
            await self._write(self._last_words.result())
        await self._send({"type": "http.response.body", "body": b""})

    async def _write_results(self) -> None:
        following, operations = self._context.following, self._context.backend.operations
        await self._write(self._wire.first)
        try:
            async with aclosing(self._results) as results:
                async for result in results:
                    is_written = isinstance(result, SerializedResult)
                    payload = result.payload if is_written else payload_of(result)
                    state = result.state if is_written else result.data and following.latest
                    await self._write(self._wire.result(payload, operations.cursor(state) if state else None))
        except StreamInterrupted:
            self._end(self._restarting())
        else:
            self._end(self._wire.complete)
        finally:
            following.settle()

    async def _write(self, text: str) -> None:
        self._sending += 1
        self._sent_at = asyncio.get_running_loop().time()
        await self._send({"type": "http.response.body", "body": text.encode(), "more_body": True})
        self._sending -= 1  # and not where it was cut short

    def _end(self, last_words: str) -> None:
        if not self._last_words.done():
            self._last_words.set_result(last_words)

    def _binding(self) -> SessionBinding:
        binding = SessionBinding(self._sessions, self._context, self._end_with_session, self._streams.start)
        if self._session is not None and self._context.token is not None:
            binding.bind(self._context.token, self._session)
        return binding

    async def _end_with_session(self) -> None:
        self._end(self._wire.broken(self._errors(SessionEnded())))

    def _restarting(self) -> str:
        return self._wire.restarting(self._errors(ServiceUnavailable(service="gateway")))

    def _errors(self, error: DomainError) -> str:
        errors = translate([GraphQLError("", original_error=error)], self._context.request_id)
        return encode_json([each.formatted for each in errors])


def is_subscription(document: DocumentNode | None, operation_name: str | None) -> bool | None:
    """Whether it is a subscription; None if that is unknown; the execution reports why."""
    operation = document and get_operation_ast(document, operation_name)
    return operation.operation is OperationType.SUBSCRIPTION if operation else None


def as_single_event_stream(answer: Response) -> Response:
    """The answer to a query or mutation, as the one event of a stream; a refusal stays what it is."""
    if answer.status_code != 200 or not isinstance(answer.body, bytes):
        return answer
    events = ServerSentEvents()
    body = events.result(answer.body.decode(), None) + events.complete
    headers: Mapping[str, str] = {"content-type": events.content_type, "cache-control": "no-cache, no-transform"}
    streamed = Response(body, headers=headers)
    streamed.raw_headers += [(name, value) for name, value in answer.raw_headers if name == b"set-cookie"]
    return streamed


async def wait_for_disconnect(receive: Receive) -> None:
    """Return once the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
