"""GraphQL websockets: what is said on them, a peer that must show signs of life, and every end there is."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, aclosing, closing, suppress
from functools import partial
from typing import Protocol, TypeAlias, cast

import structlog
from graphql import DocumentNode, GraphQLError
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import BaseGraphQLTransportWSHandler
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import Operation as HandledOperation
from strawberry.subscriptions.protocols.graphql_transport_ws.types import (
    ConnectionInitMessage,
    Message,
    PingMessage,
    SubscribeMessage,
)
from strawberry.types import ExecutionResult
from strawberry.types.execution import PreExecutionError

from contracts.auth import Session
from contracts.errors import DomainError, QuotaExhausted, RateLimited, SessionEnded
from gateway.connection_registry import ConnectionRegistry, KeepAliveSettings
from gateway.http.event_streams import is_subscription
from gateway.http.persisted_queries import ID_PARAMETERS, with_document_id
from gateway.metrics import Metrics
from gateway.security.rate_limits import RateLimiter
from gateway.sessions.session_cache import token_from_connection_init
from gateway.sessions.session_monitor import SessionBinding, SessionMonitor, grant
from gateway.subscription_multiplexer import (
    GraphQLRequest,
    SerializedResult,
    StreamedResults,
    StreamInterrupted,
    SubscriptionMultiplexer,
    payload_of,
)
from gateway.websocket.websocket_adapter import SocketAdapter
from gateway.websocket.websocket_limits import CLOSE_RATE_LIMITED, SocketLimits
from infrastructure.limits.quota import Quota
from infrastructure.limits.rate_limit import TokenBucket
from infrastructure.observability.audit import Refusal, record_refusal
from infrastructure.observability.logging import log_context
from infrastructure.tasks import cancel_and_wait
from resolvers.context import Context
from schema.errors import translate

SESSION_ENDED = 4401
"""Who gets this must sign in anew: clients do not come back by themselves."""
CLOSE_PONG_TIMEOUT = 4408
"""The peer gave no sign of life. Like 1012, clients take it as a reason to come back."""
CLOSE_SERVICE_RESTART = 1012

_LONGEST_ID = 128
_AGAIN_SECONDS = 1.0
_CLOSING_SECONDS = 0.05
"""Between two checks whether a socket whose session has ended is closed, or continues because the switch was undone."""

log = structlog.get_logger()

SocketOperation: TypeAlias = HandledOperation[Context, None]


class SocketDependencies(Protocol):
    """What the sockets of an endpoint share."""

    streams: ConnectionRegistry
    patience: KeepAliveSettings
    limits: SocketLimits
    requests: RateLimiter
    quota: Quota
    sharing: SubscriptionMultiplexer
    metrics: Metrics

    @property
    def sessions(self) -> SessionMonitor: ...

    def read(self, query: str | None) -> DocumentNode | None: ...

    async def document(self, query: str | None, extensions: object) -> str | None: ...


class SocketHandler(BaseGraphQLTransportWSHandler[Context, None]):
    """One socket. It ends with its session, with its peer's silence, or with the process."""

    _pinged_at = 0.0
    _owes_a_pong = False
    _is_over = False
    _has_place = False

    async def handle(self) -> None:
        self._message_bucket = TokenBucket(self._shared.limits.messages, 60)
        self._asked: dict[str, tuple[Context, object]] = {}
        self._binding = SessionBinding(self._sessions, self.context, self._end_with_session, self._shared.streams.start)
        with self._shared.streams.including(self), closing(self._binding):
            async with AsyncExitStack() as self._place:
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
            if waited >= patience.pong_timeout_seconds:
                self._shared.streams.start(self.websocket.close(CLOSE_PONG_TIMEOUT, "No sign of life"))
        elif waited >= patience.ping_interval_seconds:
            self._pinged_at, self._owes_a_pong = now, True
            self._shared.streams.start(self.send_message({"type": "ping"}))

    async def restart(self) -> None:
        await self.websocket.close(CLOSE_SERVICE_RESTART, "Restarting")

    async def handle_message(self, message: Message) -> None:
        if not _is_well_formed(message):
            await self.handle_invalid_message("The message is not one of the protocol's")
        elif self._is_awaited(message) or self._message_bucket.consume(self._socket.heard_at):
            await super().handle_message(message)
        else:
            record_refusal(Refusal.RATE_LIMIT)
            await self.websocket.close(CLOSE_RATE_LIMITED, "Too many messages")

    async def handle_connection_init(self, message: ConnectionInitMessage) -> None:
        if message.get("payload") is None:  # the protocol's way to say that there is none
            message.pop("payload", None)
        was_open = self.connection_acknowledged
        await super().handle_connection_init(message)
        if self.connection_acknowledged and not was_open:
            self._pinged_at = self._socket.heard_at
            self._shared.streams.start(self._introduce())

    async def handle_subscribe(self, message: SubscribeMessage) -> None:
        """Start the operation, or send it an error if too many are running, which continue."""
        most = self._shared.limits.operations
        is_new = self.connection_acknowledged and message["id"] not in self.operations
        if not is_new or len(self.operations) < most:
            payload = cast("dict[str, object]", message["payload"])
            payload.setdefault("query", None)
            await super().handle_subscribe(message)
            if is_new:  # with the present token, even if the socket's is renewed before the start
                self._asked[message["id"]] = self.context.for_execution(), with_document_id(payload).get("extensions")
            return
        reason = QuotaExhausted(f"A websocket carries {most} operations at a time; end some first.", retry_after=1.0)
        errors = translate([_raised(reason)], self.context.request_id)
        await self.send_message(
            {"id": message["id"], "type": "error", "payload": [error.formatted for error in errors]}
        )

    async def handle_ping(self, message: PingMessage) -> None:
        """Answer it. One that brings a token renews that of the socket; its operations continue."""
        token = token_from_connection_init(message.get("payload"))
        if token is None:
            await super().handle_ping(message)
            return
        renewed = self.connection_acknowledged and await self._renew(token)
        if not renewed:
            record_refusal(Refusal.UNAUTHENTICATED)
        await self.send_message({"type": "pong", "payload": {"authorization": "renewed" if renewed else "refused"}})

    async def run_operation(self, operation: SocketOperation) -> None:
        context, extensions = self._asked.pop(operation.id)
        with log_context(), self._shared.metrics.operation(self._socket.ws.headers, extensions):
            await self._run(operation, context, extensions)

    async def _run(self, operation: SocketOperation, context: Context, extensions: object) -> None:
        context.following = self.context.following.part()
        context.following.start()
        end = partial(self._end_operation, operation, context)
        try:
            await self._shared.requests.check(context)
            query = await self._shared.document(operation.query, extensions)
            document = self._shared.read(query)
            asked = GraphQLRequest(
                query,
                operation.variables,
                operation.operation_name,
                extensions if isinstance(extensions, dict) else None,
            )
            with closing(SessionBinding(self._sessions, context, end, self._shared.streams.start)) as binding:
                if is_subscription(document, operation.operation_name) is not False:
                    await self._bind(binding, context)
                results = self._shared.sharing.subscribe(asked, context, self.schema.stream)
                self._shared.metrics.count(document, operation.operation_name)
                async with aclosing(results):
                    with self._shared.metrics.subscription("websocket"):
                        await self._send_results(operation, results)
            if context.loaded_viewer is not None and context.token is not None:
                await self._hold(context.token, context.loaded_viewer)
            await operation.send_operation_message({"id": operation.id, "type": "complete"})
        except RateLimited as refusal:
            await operation.send_initial_errors(translate([_raised(refusal)], context.request_id))
        except GraphQLError as error:
            await operation.send_initial_errors(translate([error], context.request_id))
        except StreamInterrupted:
            await self.restart()
        except Exception as error:
            await self.handle_task_exception(error)
            with suppress(Exception):
                await operation.send_operation_message({"id": operation.id, "type": "complete"})
            self.operations.pop(operation.id, None)
            raise
        finally:
            context.following.settle()

    def forget_id(self, id: str) -> None:
        """It may be forgotten already: the socket ended while the operation's last word was on its way."""
        self.operations.pop(id, None)

    async def cleanup_operation(self, operation_id: str) -> None:
        operation = self.operations.pop(operation_id, None)
        self._asked.pop(operation_id, None)
        if operation is not None and operation.task is not None:
            self._shared.streams.start(cancel_and_wait(operation.task))

    @property
    def _shared(self) -> SocketDependencies:
        return cast(SocketDependencies, self.view)

    @property
    def _socket(self) -> SocketAdapter:
        return cast(SocketAdapter, self.websocket)

    @property
    def _sessions(self) -> SessionMonitor:
        return self._shared.sessions

    async def _send_results(self, operation: SocketOperation, results: StreamedResults) -> None:
        head = f'{{"id":{json.dumps(operation.id)},"type":"next","payload":'
        async for result in results:
            match result:
                case SerializedResult(payload):
                    await self._socket.send_text(f"{head}{payload}}}")
                case PreExecutionError(errors=errors):  # the other streams of the socket go on
                    await operation.send_initial_errors(errors or [])
                    return
                case ExecutionResult():
                    await self._socket.send_text(f"{head}{payload_of(result)}}}")
                case _:
                    await self._reject_incremental_delivery(operation)
                    return

    def _is_awaited(self, message: Message) -> bool:
        """Whether it is the answer to our own ping: the peer has no choice but to send that."""
        is_answer = message["type"] == "pong" and self._owes_a_pong
        self._owes_a_pong = self._owes_a_pong and not is_answer
        return is_answer

    async def _bind(self, binding: SessionBinding, context: Context) -> None:
        """Bind a stream to the session that it starts with. Raises GraphQLError: then the stream must not start."""
        try:
            session = await context.viewer()
        except Exception as error:
            raise GraphQLError("", original_error=error) from error
        if session is not None and context.token is not None:
            binding.bind(context.token, session)
            await self._hold(context.token, session)

    async def _end_operation(self, operation: SocketOperation, context: Context) -> None:
        """End one stream whose session has ended; the socket may go on with another session of the same user.

        If it is the socket's own session, the close code of the socket says so: a client without running operations
        would ignore a close.
        """
        if operation.task is not None:
            await cancel_and_wait(operation.task)
        while context.token == self.context.token and self._binding.has_ended:
            if self._is_over or self._socket.is_closed:
                return
            await asyncio.sleep(_CLOSING_SECONDS)
        if self.operations.get(operation.id) is operation:
            errors = translate([_raised(SessionEnded())], self.context.request_id)
            await operation.send_initial_errors(errors)

    async def _introduce(self) -> None:
        """Find the session that the socket was opened with. A service that does not answer is asked again."""
        token = self.context.token
        while token is not None and not self._is_over and self._binding.session is None:
            try:
                session = await self._sessions.find(token, request_id=self.context.request_id)
            except Exception as error:  # noqa: BLE001 - the socket's operations report the error
                log.warning("the session of a websocket is not known yet", error=repr(error))
                await asyncio.sleep(_AGAIN_SECONDS)
            else:
                if session is not None:
                    await self._hold(token, session)
                return

    async def _hold(self, token: str, session: Session) -> None:
        """End the socket with this session, if it is the socket's own, and count the socket among the user's."""
        if self._is_over or token != self.context.token:
            return
        if self._binding.session is None:
            self._binding.bind(token, session)
        if self._has_place:
            return
        self._has_place = True
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(
                    self._shared.quota.acquire(self._shared.limits.of_user(session.user_id))
                )
            except RateLimited as error:
                account = self.context.backend.pseudonyms.account(session.user_id)
                record_refusal(Refusal.QUOTA, user=session.user_id, account=account)
                await self.websocket.close(CLOSE_RATE_LIMITED, str(error))
                return
            if not self._is_over:  # it may have ended during the call
                self._place.push_async_exit(stack.pop_all())

    async def _end_with_session(self) -> None:
        await self.websocket.close(SESSION_ENDED, "The session has ended")

    async def _renew(self, token: str) -> bool:
        """Take the token in place of the present one, if it opens a session of the same user, tenant and role.

        A socket without a session accepts any. A socket whose session has ended accepts none.
        """
        present, request_id = self.context.token, self.context.request_id
        try:
            new = await self._sessions.find(token, request_id=request_id)
            old = None if present is None else await self._sessions.find(present, request_id=request_id)
        except DomainError:  # the sessions could not be compared; the client may ask again
            return False
        bound = self._binding.session
        if new is None or self._is_over or self._binding.has_ended or (bound is not None and old is None):
            return False
        if any(each is not None and grant(each) != grant(new) for each in (bound, old)):
            return False
        self.context.token = token
        self._binding.bind(token, new)
        await self._hold(token, new)
        return True


def _raised(error: DomainError) -> GraphQLError:
    return GraphQLError("", original_error=error)


def _is_well_formed(message: object) -> bool:
    """Whether the frame's parts have the types that the protocol gives them."""
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        return False
    if message["type"] in ("subscribe", "complete") and not _is_id(message.get("id")):
        return False
    payload = message.get("payload")
    if message["type"] in ("ping", "pong"):
        return isinstance(payload, dict | None)
    if message["type"] != "subscribe":
        return True
    return (
        isinstance(payload, dict)
        and isinstance(payload.get("query"), str | None)
        and isinstance(payload.get("extensions"), dict | None)
        and any(payload.get(name) is not None for name in ("query", "extensions", *ID_PARAMETERS))
        and isinstance(payload.get("variables"), dict | None)
        and isinstance(payload.get("operationName"), str | None)
    )


def _is_id(id: object) -> bool:
    """Each message about the operation carries it, so it is short."""
    return isinstance(id, str) and 0 < len(id) <= _LONGEST_ID
