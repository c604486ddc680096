"""The handler of GraphQL websockets: protocol messages, operations, keepalive, token renewal, and close codes."""

from __future__ import annotations

import asyncio
import json
from abc import abstractmethod
from contextlib import AsyncExitStack, aclosing, closing, suppress
from functools import partial
from typing import TypeAlias, cast

import structlog
from graphql import DocumentNode, GraphQLError
from strawberry.asgi import GraphQL
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
from gateway.sessions.request_credentials import token_from_connection_init
from gateway.sessions.session_monitor import SessionBinding, SessionMonitor, access_of
from gateway.subscription_multiplexer import (
    GraphQLRequest,
    SerializedResult,
    StreamedResults,
    StreamInterrupted,
    SubscriptionMultiplexer,
    serialize_result,
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

CLOSE_SESSION_ENDED = 4401
"""The close code for an ended session. Clients do not reconnect automatically, because the user must sign in again."""
CLOSE_PONG_TIMEOUT = 4408
"""The close code for a peer that did not answer a ping. Clients reconnect automatically."""
CLOSE_SERVICE_RESTART = 1012
"""The close code for a stop of the process. Clients reconnect automatically."""

_MAX_ID_LENGTH = 128
_SESSION_RETRY_INTERVAL_SECONDS = 1.0
_CLOSE_CHECK_INTERVAL_SECONDS = 0.05
"""Interval at which an operation of an ended session checks whether its socket is closed or its session is restored."""

log = structlog.get_logger()

SocketOperation: TypeAlias = HandledOperation[Context, None]


class SocketEndpoint(GraphQL[Context, None]):
    """The endpoint that creates socket handlers. Its attributes are the components that all its sockets share."""

    websocket_adapter_class = SocketAdapter

    streams: ConnectionRegistry
    keep_alive_settings: KeepAliveSettings
    socket_limits: SocketLimits
    rate_limiter: RateLimiter
    quota: Quota
    multiplexer: SubscriptionMultiplexer
    metrics: Metrics

    @property
    @abstractmethod
    def session_monitor(self) -> SessionMonitor:
        """The session monitor of the process."""

    @abstractmethod
    def parsed_document(self, query: str | None) -> DocumentNode | None:
        """Return the parsed document; None if there is none or if it has a syntax error."""

    @abstractmethod
    async def resolve_document(self, query: str | None, extensions: object) -> str | None:
        """Return the document that a message contains or names by a persisted query in its extensions.

        Raises:
            GraphQLError: the persisted query is invalid, or is not known.
        """


class SocketHandler(BaseGraphQLTransportWSHandler[Context, None]):
    """Handles one websocket with the protocol graphql-transport-ws.

    The socket is closed when its session ends, when its peer does not answer a ping, or when the process stops.
    """

    view: SocketEndpoint
    websocket: SocketAdapter

    _pinged_at = 0.0
    _awaiting_pong = False
    _has_ended = False
    _has_user_slot = False

    async def handle(self) -> None:
        """Handle messages until the socket is closed."""
        self._message_bucket = TokenBucket(self.view.socket_limits.messages_per_minute, 60)
        self._subscribed: dict[str, tuple[Context, object]] = {}
        """Context and extensions of the operations that have not started yet, by their ids."""
        self._binding = SessionBinding(
            self.view.session_monitor, self.context, self._end_with_session, self.view.streams.start
        )
        with self.view.streams.register(self), closing(self._binding):
            async with AsyncExitStack() as self._user_slot:
                try:
                    await super().handle()
                except asyncio.CancelledError:
                    if not self.websocket.is_abandoned:
                        raise
                finally:
                    self._has_ended = True

    def check_liveness(self, now: float) -> None:
        """Send a ping if it is due; close the socket if no message has arrived for the pong timeout after a ping."""
        if not self.connection_acknowledged or self.websocket.is_closed:
            return
        settings, elapsed = self.view.keep_alive_settings, now - self._pinged_at
        if self.websocket.last_received_at < self._pinged_at:
            if elapsed >= settings.pong_timeout_seconds:
                self.view.streams.start(self.websocket.close(CLOSE_PONG_TIMEOUT, "No sign of life"))
        elif elapsed >= settings.ping_interval_seconds:
            self._pinged_at, self._awaiting_pong = now, True
            self.view.streams.start(self.send_message({"type": "ping"}))

    async def close_for_restart(self) -> None:
        """Close the socket with the code for a restart of the service."""
        await self.websocket.close(CLOSE_SERVICE_RESTART, "Restarting")

    async def handle_message(self, message: Message) -> None:
        """Handle a message of the client; close the socket if it is malformed or exceeds the rate limit."""
        if not _is_well_formed(message):
            await self.handle_invalid_message("The message is not one of the protocol's")
        elif self._is_expected_pong(message) or self._message_bucket.consume(self.websocket.last_received_at):
            await super().handle_message(message)
        else:
            record_refusal(Refusal.RATE_LIMIT)
            await self.websocket.close(CLOSE_RATE_LIMITED, "Too many messages")

    async def handle_connection_init(self, message: ConnectionInitMessage) -> None:
        """Acknowledge the connection, and read its session in the background."""
        if message.get("payload") is None:  # a payload of null means that there is none
            message.pop("payload", None)
        was_acknowledged = self.connection_acknowledged
        await super().handle_connection_init(message)
        if self.connection_acknowledged and not was_acknowledged:
            self._pinged_at = self.websocket.last_received_at
            self.view.streams.start(self._load_session())

    async def handle_subscribe(self, message: SubscribeMessage) -> None:
        """Start an operation, or send an error for it if the socket has its maximum of running operations."""
        limit = self.view.socket_limits.max_operations
        is_new = self.connection_acknowledged and message["id"] not in self.operations
        if not is_new or len(self.operations) < limit:
            payload = cast("dict[str, object]", message["payload"])
            payload.setdefault("query", None)
            await super().handle_subscribe(message)
            if is_new:  # the operation keeps this token even if the socket's token is renewed before it starts
                self._subscribed[message["id"]] = (
                    self.context.for_execution(),
                    with_document_id(payload).get("extensions"),
                )
            return
        reason = QuotaExhausted(f"A websocket carries {limit} operations at a time; end some first.", retry_after=1.0)
        errors = translate([_to_graphql_error(reason)], self.context.request_id)
        await self.send_message(
            {"id": message["id"], "type": "error", "payload": [error.formatted for error in errors]}
        )

    async def handle_ping(self, message: PingMessage) -> None:
        """Answer a ping. A token in its payload replaces the socket's token; running operations continue."""
        token = token_from_connection_init(message.get("payload"))
        if token is None:
            await super().handle_ping(message)
            return
        renewed = self.connection_acknowledged and await self._renew_token(token)
        if not renewed:
            record_refusal(Refusal.UNAUTHENTICATED)
        await self.send_message({"type": "pong", "payload": {"authorization": "renewed" if renewed else "refused"}})

    async def run_operation(self, operation: SocketOperation) -> None:
        """Execute one operation of the socket and send its results."""
        context, extensions = self._subscribed.pop(operation.id)
        with log_context(), self.view.metrics.operation_span(self.websocket.ws.headers, extensions):
            await self._run(operation, context, extensions)

    async def _run(self, operation: SocketOperation, context: Context, extensions: object) -> None:
        context.subscription = self.context.subscription.child()
        context.subscription.mark_starting()
        end = partial(self._end_operation, operation, context)
        try:
            await self.view.rate_limiter.check(context)
            query = await self.view.resolve_document(operation.query, extensions)
            document = self.view.parsed_document(query)
            request = GraphQLRequest(
                query,
                operation.variables,
                operation.operation_name,
                extensions if isinstance(extensions, dict) else None,
            )
            with closing(SessionBinding(self.view.session_monitor, context, end, self.view.streams.start)) as binding:
                if is_subscription(document, operation.operation_name) is not False:
                    await self._bind(binding, context)
                results = self.view.multiplexer.subscribe(request, context, self.schema.stream)
                self.view.metrics.count_operation(document, operation.operation_name)
                async with aclosing(results):
                    with self.view.metrics.open_subscription("websocket"):
                        await self._send_results(operation, results)
            if context.loaded_viewer is not None and context.token is not None:
                await self._adopt_session(context.token, context.loaded_viewer)
            await operation.send_operation_message({"id": operation.id, "type": "complete"})
        except RateLimited as refusal:
            await operation.send_initial_errors(translate([_to_graphql_error(refusal)], context.request_id))
        except GraphQLError as error:
            await operation.send_initial_errors(translate([error], context.request_id))
        except StreamInterrupted:
            await self.close_for_restart()
        except Exception as error:
            await self.handle_task_exception(error)
            with suppress(Exception):
                await operation.send_operation_message({"id": operation.id, "type": "complete"})
            self.operations.pop(operation.id, None)
            raise
        finally:
            context.subscription.mark_started()

    def forget_id(self, id: str) -> None:
        """Remove an operation. It may be removed already, if the socket ended while the last message was sent."""
        self.operations.pop(id, None)

    async def cleanup_operation(self, operation_id: str) -> None:
        """Remove an operation and cancel its task."""
        operation = self.operations.pop(operation_id, None)
        self._subscribed.pop(operation_id, None)
        if operation is not None and operation.task is not None:
            self.view.streams.start(cancel_and_wait(operation.task))

    async def _send_results(self, operation: SocketOperation, results: StreamedResults) -> None:
        prefix = f'{{"id":{json.dumps(operation.id)},"type":"next","payload":'
        async for result in results:
            match result:
                case SerializedResult(payload):
                    await self.websocket.send_text(f"{prefix}{payload}}}")
                case PreExecutionError(errors=errors):  # ends this operation only
                    await operation.send_initial_errors(errors or [])
                    return
                case ExecutionResult():
                    await self.websocket.send_text(f"{prefix}{serialize_result(result)}}}")
                case _:
                    await self._reject_incremental_delivery(operation)
                    return

    def _is_expected_pong(self, message: Message) -> bool:
        """Return whether the message answers a ping of this side. Such a message does not count for the rate limit."""
        is_expected = message["type"] == "pong" and self._awaiting_pong
        self._awaiting_pong = self._awaiting_pong and not is_expected
        return is_expected

    async def _bind(self, binding: SessionBinding, context: Context) -> None:
        """Bind an operation to the session that it is started with.

        Raises:
            GraphQLError: the session cannot be read, so that the operation must not start.
        """
        try:
            session = await context.viewer()
        except Exception as error:
            raise GraphQLError("", original_error=error) from error
        if session is not None and context.token is not None:
            binding.bind(context.token, session)
            await self._adopt_session(context.token, session)

    async def _end_operation(self, operation: SocketOperation, context: Context) -> None:
        """End one operation whose session has ended. The socket may continue with another session of the same user.

        If the session is the socket's own, the socket is about to be closed with a code that states the reason. The
        operation waits for that without an error message, because graphql-ws does not report the close code to a
        client without running operations.
        """
        if operation.task is not None:
            await cancel_and_wait(operation.task)
        while context.token == self.context.token and self._binding.has_ended:
            if self._has_ended or self.websocket.is_closed:
                return
            await asyncio.sleep(_CLOSE_CHECK_INTERVAL_SECONDS)
        if self.operations.get(operation.id) is operation:
            errors = translate([_to_graphql_error(SessionEnded())], self.context.request_id)
            await operation.send_initial_errors(errors)

    async def _load_session(self) -> None:
        """Read the session of the socket, and try again each second while it cannot be read."""
        token = self.context.token
        while token is not None and not self._has_ended and self._binding.session is None:
            try:
                session = await self.view.session_monitor.find(token, request_id=self.context.request_id)
            except Exception as error:  # noqa: BLE001 - the operations of the socket report the error
                log.warning("websocket_session_unreadable", error=repr(error))
                await asyncio.sleep(_SESSION_RETRY_INTERVAL_SECONDS)
            else:
                if session is not None:
                    await self._adopt_session(token, session)
                return

    async def _adopt_session(self, token: str, session: Session) -> None:
        """Bind the socket to its own session, and count the socket against the quota of the session's user.

        The call has no effect if the token is not the socket's token.
        """
        if self._has_ended or token != self.context.token:
            return
        if self._binding.session is None:
            self._binding.bind(token, session)
        if self._has_user_slot:
            return
        self._has_user_slot = True
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(
                    self.view.quota.acquire(self.view.socket_limits.user_key(session.user_id))
                )
            except RateLimited as error:
                account = self.context.backend.pseudonyms.account(session.user_id)
                record_refusal(Refusal.QUOTA, user=session.user_id, account=account)
                await self.websocket.close(CLOSE_RATE_LIMITED, str(error))
                return
            if not self._has_ended:  # the socket may have ended during the call
                self._user_slot.push_async_exit(stack.pop_all())

    async def _end_with_session(self) -> None:
        await self.websocket.close(CLOSE_SESSION_ENDED, "The session has ended")

    async def _renew_token(self, token: str) -> bool:
        """Replace the socket's token and return True, if the new token's session has the same user, tenant and role.

        A socket without a session accepts the token of any session. A socket whose session has ended accepts none.
        """
        old_token, request_id = self.context.token, self.context.request_id
        try:
            new = await self.view.session_monitor.find(token, request_id=request_id)
            old = None if old_token is None else await self.view.session_monitor.find(old_token, request_id=request_id)
        except DomainError:  # the sessions cannot be compared; the client may try again
            return False
        bound = self._binding.session
        if new is None or self._has_ended or self._binding.has_ended or (bound is not None and old is None):
            return False
        if any(each is not None and access_of(each) != access_of(new) for each in (bound, old)):
            return False
        self.context.token = token
        self._binding.bind(token, new)
        await self._adopt_session(token, new)
        return True


def _to_graphql_error(error: DomainError) -> GraphQLError:
    return GraphQLError("", original_error=error)


def _is_well_formed(message: object) -> bool:
    """Return whether the entries of a message have the types that the protocol requires."""
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        return False
    if message["type"] in ("subscribe", "complete") and not _is_valid_id(message.get("id")):
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


def _is_valid_id(id: object) -> bool:
    """Return whether the id of an operation is a short text. Each message of the operation repeats the id."""
    return isinstance(id, str) and 0 < len(id) <= _MAX_ID_LENGTH
