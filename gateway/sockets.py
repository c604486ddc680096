"""GraphQL websockets: frames checked before they are believed, a peer that must show signs of life, and every end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Hashable, Mapping
from contextlib import ExitStack, aclosing, suppress
from functools import partial
from typing import Any, Protocol, TypeAlias, cast

from graphql import GraphQLError
from starlette.websockets import WebSocketDisconnect, WebSocketState
from strawberry.asgi import ASGIWebSocketAdapter
from strawberry.http.exceptions import NonJsonMessageReceived, NonTextMessageReceived
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import BaseGraphQLTransportWSHandler
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import Operation as HandledOperation
from strawberry.subscriptions.protocols.graphql_transport_ws.types import ConnectionInitMessage, Message, PingMessage

from contracts.auth import Session
from contracts.errors import DomainError
from contracts.operations import Operation
from gateway.cancelling import cancelled
from gateway.open_streams import OpenStreams, Patience
from gateway.session_watch import SessionWatch, standing
from gateway.sessions import introduced_token
from gateway.sharing import BrokenOff, Results, Sharing, question
from resolvers.context import Context
from resolvers.following import Following

SESSION_ENDED = 4401
"""Who gets this must sign in anew: clients do not come back by themselves."""
SILENT = 4408
"""The peer gave no sign of life. Like 1012, clients take it as a reason to come back."""
RESTARTING = 1012

_CLOSING_SECONDS = 2.0
"""How long a peer may take to answer a close before it is left alone."""


class SocketAdapter(ASGIWebSocketAdapter):
    """Reads JSON objects. Whatever else comes closes the socket with 4400."""

    heard_at = 0.0
    """The event loop's time at the newest sign of life."""
    is_abandoned = False
    _reading: asyncio.Task[object] | None = None

    @property
    def is_closed(self) -> bool:
        return self.ws.application_state is WebSocketState.DISCONNECTED

    async def iter_json(self, *, ignore_parsing_errors: bool = False) -> AsyncGenerator[object, None]:  # noqa: ARG002
        self._reading = asyncio.current_task()
        loop = asyncio.get_running_loop()
        try:
            while True:
                message = await self.ws.receive()
                self.heard_at = loop.time()
                if message["type"] == "websocket.disconnect":
                    return
                if not self.is_closed:  # else the peer has yet to answer our close
                    yield self._frame(message.get("text"))
        finally:
            self._reading = None

    async def send_json(self, message: Mapping[str, object]) -> None:
        if not self.is_closed:
            await super().send_json(message)

    async def send_text(self, text: str) -> None:
        if not self.is_closed:
            await self.ws.send({"type": "websocket.send", "text": text})

    async def close(self, code: int, reason: str) -> None:
        """Say so to the peer, and leave it alone where it does not answer in time."""
        if self.is_closed:
            return
        asyncio.get_running_loop().call_later(_CLOSING_SECONDS, self._abandon)
        with suppress(WebSocketDisconnect, RuntimeError):  # the client was quicker
            await super().close(code, reason.encode()[:120].decode(errors="ignore"))

    def _frame(self, text: str | None) -> dict[str, object]:
        if text is None:
            raise NonTextMessageReceived
        try:
            frame = self.view.decode_json(text)
        except (ValueError, RecursionError) as error:
            raise NonJsonMessageReceived from error
        if not isinstance(frame, dict):
            raise NonJsonMessageReceived
        return frame

    def _abandon(self) -> None:
        if self._reading is not None:
            self.is_abandoned = True
            self._reading.cancel()


SocketOperation: TypeAlias = HandledOperation[Context, None]


class Endpoint(Protocol):
    """What the sockets of an endpoint share."""

    streams: OpenStreams
    patience: Patience
    sharing: Sharing


class SocketHandler(BaseGraphQLTransportWSHandler[Context, None]):
    """One socket. It ends with its session, with its peer's silence, or with the process."""

    _pinged_at = 0.0
    _session_ended = False
    _is_over = False

    async def handle(self) -> None:
        with self._shared.streams.including(self), ExitStack() as self._stay:
            try:
                await super().handle()
            except asyncio.CancelledError:
                if not self._socket.is_abandoned:
                    raise
            finally:
                self._is_over = True

    def tend(self, now: float) -> None:
        """Ping a peer from time to time, and close it where it does not give a sign of life after that."""
        if not self.connection_acknowledged or self._socket.is_closed:
            return
        patience, waited = self._shared.patience, now - self._pinged_at
        if self._socket.heard_at < self._pinged_at:
            if waited >= patience.silence_seconds:
                self._shared.streams.start(self.websocket.close(SILENT, "No sign of life"))
        elif waited >= patience.ping_seconds:
            self._pinged_at = now
            self._shared.streams.start(self.send_message({"type": "ping"}))

    async def restart(self) -> None:
        await self.websocket.close(RESTARTING, "Restarting")

    async def handle_message(self, message: Message) -> None:
        if _is_well_formed(message):
            await super().handle_message(message)
        else:
            await self.handle_invalid_message("The message is not one of the protocol's")

    async def handle_connection_init(self, message: ConnectionInitMessage) -> None:
        if message.get("payload") is None:  # the protocol's way to say that there is none
            message.pop("payload", None)
        was_open = self.connection_acknowledged
        await super().handle_connection_init(message)
        if self.connection_acknowledged and not was_open:
            self._pinged_at = self._socket.heard_at
            self._stay_with_session()

    async def handle_ping(self, message: PingMessage) -> None:
        """Answer it. One that brings a token renews that of the socket; what is followed goes on meanwhile."""
        token = introduced_token(message.get("payload"))
        if token is None:
            await super().handle_ping(message)
            return
        renewed = self.connection_acknowledged and await self._renew(token)
        await self.send_message({"type": "pong", "payload": {"authorization": "renewed" if renewed else "refused"}})

    async def run_operation(self, operation: SocketOperation) -> None:
        """Tell its results: by a stream of its own or, once that has told a first one, what others are told as well."""
        context = self.context.for_execution()
        following = context.following = self.context.following.part()
        try:
            with ExitStack() as stack:
                async with aclosing(await self._stream(operation, context)) as results:
                    await self._send_result_stream(operation, _first(results, following))
                    state = following.latest
                    viewer = self._sessions.known(context.token)
                    asked = self._shared.sharing.asked(_question(operation, context, viewer))
                    if state is None or state.is_closed or not stack.enter_context(asked):
                        state = None
                        await self._send_result_stream(operation, results)
                if state is not None:
                    await self._tell_with_others(operation, context, viewer, state)
            await operation.send_operation_message({"id": operation.id, "type": "complete"})
        except BrokenOff:
            await self.restart()
        except Exception as error:
            await self.handle_task_exception(error)
            with suppress(Exception):
                await operation.send_operation_message({"id": operation.id, "type": "complete"})
            self.operations.pop(operation.id, None)
            raise

    async def cleanup_operation(self, operation_id: str) -> None:
        operation = self.operations.pop(operation_id, None)
        if operation is not None and operation.task is not None:
            self._shared.streams.start(cancelled(operation.task))

    @staticmethod
    def _get_pre_execution_close_reason(error: GraphQLError) -> str | None:  # noqa: ARG004
        return None  # a bad document is told as its own error: the other streams of the socket go on

    @property
    def _shared(self) -> Endpoint:
        return cast(Endpoint, self.view)

    @property
    def _socket(self) -> SocketAdapter:
        return cast(SocketAdapter, self.websocket)

    @property
    def _sessions(self) -> SessionWatch:
        sessions = self.context.backend.sessions
        assert isinstance(sessions, SessionWatch)
        return sessions

    async def _stream(self, operation: SocketOperation, context: Context) -> Any:
        return await self.schema.stream(
            operation.query,
            variable_values=operation.variables,
            context_value=context,
            operation_name=operation.operation_name,
        )

    async def _tell_with_others(
        self, operation: SocketOperation, context: Context, viewer: Session | None, state: Operation
    ) -> None:
        head = f'{{"id":{json.dumps(operation.id)},"type":"next","payload":'
        start = partial(self._stream, operation)
        shared = self._shared.sharing.group(_question(operation, context, viewer), context, viewer, start)
        with shared as group, context.following.operation(state.id) as told:
            async with aclosing(group.after(state)) as newer:
                async for payload, state in newer:
                    told(state)
                    await self._socket.send_text(f"{head}{payload}}}")

    def _stay_with_session(self) -> None:
        self._stay.close()
        if not self._is_over:
            self._stay.enter_context(self._sessions.staying(self.context.token, self._session_over))

    def _session_over(self, ended: Session) -> None:
        self._session_ended = True
        self._shared.streams.start(self._end_with_session(ended))

    async def _end_with_session(self, ended: Session) -> None:
        """Close, once the switch that ended the session has told its end here, where it is followed here."""
        has_waited = await self.context.following.last_word()
        if has_waited and self.context.token and await self._sessions.is_back(self.context.token, ended):
            self._session_ended = False
            self._stay_with_session()
        else:
            await self.websocket.close(SESSION_ENDED, "The session has ended")

    async def _renew(self, token: str) -> bool:
        """Take the token in place of the present one, where it opens a session of the same user, tenant and role."""
        try:
            new = await self._sessions.find(token, request_id=self.context.request_id)
        except DomainError:  # the auth service does not answer; the client may ask again
            return False
        old = self._sessions.known(self.context.token)
        if new is None or self._session_ended or (old and standing(old) != standing(new)):
            return False
        self.context.token = token
        self._stay_with_session()
        return True


async def _first(results: Results, following: Following) -> Results:
    """To the first that shows an operation that goes on."""
    async for result in results:
        yield result
        if following.latest is not None and not following.latest.is_closed:
            return


def _question(operation: SocketOperation, context: Context, viewer: Session | None) -> Hashable | None:
    return question(operation.query, operation.variables, operation.operation_name, context, viewer)


def _is_well_formed(message: object) -> bool:
    """Whether the frame's parts have the types that the protocol gives them."""
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        return False
    if message["type"] in ("subscribe", "complete") and not isinstance(message.get("id"), str):
        return False
    payload = message.get("payload")
    if message["type"] in ("ping", "pong"):
        return isinstance(payload, dict | None)
    if message["type"] != "subscribe":
        return True
    return (
        isinstance(payload, dict)
        and isinstance(payload.get("query"), str)
        and isinstance(payload.get("variables"), dict | None)
        and isinstance(payload.get("operationName"), str | None)
    )
