"""The GraphQL endpoint: executes requests over HTTP, opens websockets, and streams subscriptions over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta

from cross_web import AsyncHTTPRequestAdapter, HTTPException
from graphql import DocumentNode, GraphQLError
from graphql.execution import PendingResult, SubsequentIncrementalExecutionResult
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.exceptions import ConnectionRejectionError, MissingQueryError
from strawberry.http import GraphQLHTTPResponse, GraphQLRequestData
from strawberry.http.base import BaseRequestProtocol
from strawberry.http.types import QueryParams
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.types import ExecutionResult
from strawberry.types.execution import PreExecutionError
from strawberry.types.graphql import OperationType
from strawberry.types.unset import UNSET, UnsetType

from contracts.errors import RateLimited
from gateway.connection_registry import ConnectionRegistry, KeepAliveSettings
from gateway.http.error_responses import domain_error_response, error_response, request_id_of
from gateway.http.event_streams import EventStream, StreamedSubscription, as_single_event_stream, is_subscription
from gateway.http.http_status import has_no_data, http_status, negotiate_media_type
from gateway.http.json_decoding import InvalidJson, encode_json, read_json
from gateway.http.persisted_queries import with_document_id
from gateway.http.stream_formats import (
    StreamFormat,
    accepts_incremental_delivery,
    accepts_json,
    negotiate_stream_format,
)
from gateway.lifecycle import Connections
from gateway.metrics import Metrics
from gateway.security.client_network import client_network
from gateway.security.proxy_headers import base_url, is_secure
from gateway.security.rate_limits import RateLimiter
from gateway.sessions.cookies import HttpSessionCookie, NullCookie, device_from_request, login_tokens_from_request
from gateway.sessions.request_credentials import (
    is_valid_connection_init,
    tenant_from_request,
    token_from_connection_init,
    token_from_request,
)
from gateway.sessions.session_monitor import SessionMonitor
from gateway.subscription_multiplexer import (
    GraphQLRequest,
    StreamedResults,
    SubscriptionMultiplexer,
    add_current_tenant,
)
from gateway.websocket.handler import CLOSE_SERVICE_RESTART, SocketEndpoint, SocketHandler
from gateway.websocket.websocket_limits import CLOSE_RATE_LIMITED, SocketLimits
from infrastructure.limits.quota import Quota
from infrastructure.observability.audit import Refusal, record_refusal
from resolvers.context import Context, SessionCookie
from resolvers.sign_in_throttle import ClientInfo
from schema.errors import bad_request, translate
from schema.execution.incremental_delivery import incremental_delivery_error
from schema.schema import Schema

_BY_METHOD = {
    "GET": (OperationType.QUERY,),
    "HEAD": (OperationType.QUERY,),
    "POST": (OperationType.QUERY, OperationType.MUTATION),
}


class SocketContext(Context):
    """The context of a websocket, whose session token arrives in the payload of ``connection_init``."""

    connection_params: dict[str, object] | None = None
    """The payload of ``connection_init``, which strawberry sets."""


@dataclass(frozen=True)
class EndpointDependencies:
    """The components that the endpoint uses.

    Attributes:
        connections: returns the open connections while the application runs.
        public_url: the URL at which clients reach the gateway; None: the one that each request names.
    """

    schema: Schema
    connections: Callable[[], Connections]
    streams: ConnectionRegistry
    keep_alive: KeepAliveSettings
    socket_limits: SocketLimits
    rate_limiter: RateLimiter
    quota: Quota
    metrics: Metrics
    allowed_origins: Sequence[str] = ()
    public_url: str | None = None


class GraphQLEndpoint(SocketEndpoint):
    """GraphQL over HTTP and over websockets (graphql-transport-ws).

    A POST request must have a JSON body, which a form of another site cannot send with a cookie. A GET request can
    execute queries only.
    """

    graphql_transport_ws_handler_class = SocketHandler

    def __init__(self, dependencies: EndpointDependencies) -> None:
        super().__init__(
            dependencies.schema,
            graphql_ide=None,
            subscription_protocols=(GRAPHQL_TRANSPORT_WS_PROTOCOL,),
            connection_init_wait_timeout=timedelta(seconds=dependencies.socket_limits.init_timeout_seconds),
            max_subscriptions_per_connection=None,  # SocketHandler has a limit whose error has a time for a retry
            allowed_origins=dependencies.allowed_origins,
        )
        self._schema = dependencies.schema
        self._connections = dependencies.connections
        self._public_url = dependencies.public_url
        self.streams = dependencies.streams
        self.keep_alive_settings = dependencies.keep_alive
        self.socket_limits = dependencies.socket_limits
        self.rate_limiter = dependencies.rate_limiter
        self.metrics = dependencies.metrics
        self.quota = dependencies.quota
        self.multiplexer = SubscriptionMultiplexer()

    @property
    def session_monitor(self) -> SessionMonitor:
        return self._connections().session_monitor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._open_socket(WebSocket(scope, receive=receive, send=send))
            return
        request = Request(scope, receive=receive)
        response: ASGIApp
        async with AsyncExitStack() as stack:
            try:
                response = await self._respond(request, stack)
            except HTTPException as error:
                refused_response = error_response(bad_request(error.reason), error.status_code, request_id_of(request))
                response = negotiate_media_type(refused_response, request.headers.get("accept", ""), error.status_code)
            except RateLimited as error:
                response = domain_error_response(error, request_id_of(request))
            await response(scope, receive, send)

    async def _open_socket(self, socket: WebSocket) -> None:
        if self.streams.is_stopping:
            # The handshake is accepted first, because the client graphql-ws does not retry after a failed handshake.
            await socket.accept(await self.pick_websocket_subprotocol(socket))
            await socket.close(CLOSE_SERVICE_RESTART, "Restarting")
            return
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(
                    self.quota.acquire(self.socket_limits.address_key(client_network(socket)))
                )
            except RateLimited as error:
                await socket.accept(await self.pick_websocket_subprotocol(socket))
                record_refusal(Refusal.QUOTA)
                await socket.close(CLOSE_RATE_LIMITED, str(error))
            else:
                await self.run(socket)

    async def _respond(self, request: Request, stack: AsyncExitStack) -> ASGIApp:
        """Return the response: a stream for a subscription if the client accepts a stream format, else one JSON body.

        A stream counts against the quota of its client network until ``stack`` is closed.
        """
        accept = request.headers.get("accept", "")
        stream_format = negotiate_stream_format(accept)
        if stream_format is None:
            return negotiate_media_type(await self.run(request), accept, _status(request))
        data = await self.parse_http_body(self.request_adapter_class(request))
        assert isinstance(data, GraphQLRequestData), "batches have been refused"
        try:
            data.query = await self._connections().persisted_queries.resolve(data.query, data.extensions)
        except GraphQLError:
            is_stream: bool | None = False  # self.run reports the error in a JSON body
        else:
            is_stream = is_subscription(self._schema.document(data.query), data.operation_name)
        if is_stream or (is_stream is None and not accepts_json(accept)):
            await stack.enter_async_context(self.quota.acquire(self.socket_limits.address_key(client_network(request))))
            return await self._stream(request, data, stream_format, stack)
        response = await self.run(request)
        return (
            negotiate_media_type(response, accept, _status(request))
            if accepts_json(accept)
            else as_single_event_stream(response)
        )

    async def _stream(
        self, request: Request, data: GraphQLRequestData, stream_format: StreamFormat, stack: AsyncExitStack
    ) -> EventStream:
        context = await self.get_context(request, await self.get_sub_response(request))
        await self.rate_limiter.check(context)
        context.subscription.last_event_id = request.headers.get("last-event-id") or None
        context.subscription.mark_starting()
        graphql_request = GraphQLRequest(data.query, data.variables, data.operation_name, data.extensions)
        try:
            session = await context.viewer()
        except Exception as error:  # noqa: BLE001 - the session is unknown: the stream yields the error and ends
            session, results = None, _single_error(error, context.request_id)
        else:
            results = self.multiplexer.subscribe(graphql_request, context, self.schema.subscribe)
        self.metrics.count_operation(self._schema.document(data.query), data.operation_name)
        stack.enter_context(self.metrics.open_subscription(stream_format.name))
        subscription = StreamedSubscription(results, stream_format, context, session)
        return EventStream(subscription, self.streams, self.keep_alive_settings, self.session_monitor)

    def parsed_document(self, query: str | None) -> DocumentNode | None:
        return self._schema.document(query)

    async def resolve_document(self, query: str | None, extensions: object) -> str | None:
        return await self._connections().persisted_queries.resolve(
            query, extensions if isinstance(extensions, dict) else None
        )

    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> Context:
        """Create the context of one HTTP request or of one websocket from the request's headers and cookies."""
        backend = self._connections().backend
        request_id: str = request.state.request_id
        address = self._public_url or base_url(request)
        secure = is_secure(request)
        token = token_from_request(request)
        logins = login_tokens_from_request(request, secure=secure)
        if isinstance(response, Response):
            cookie: SessionCookie = HttpSessionCookie(response, secure=secure, logins=logins)
            context_class: type[Context] = Context
        else:
            cookie, context_class = NullCookie(), SocketContext
        client = ClientInfo(
            client_network(request), device_from_request(request, secure=secure), request.state.client_digest
        )
        return context_class(
            backend,
            request_id=request_id,
            base_url=address,
            cookie=cookie,
            token=token,
            login_tokens=logins,
            expected_tenant=tenant_from_request(request),
            client=client,
        )

    async def on_ws_connect(self, context: Context) -> UnsetType | dict[str, object] | None:
        """Read token and tenant from the payload of ``connection_init``; the response has no payload.

        Raises:
            ConnectionRejectionError: the payload is invalid.
        """
        assert isinstance(context, SocketContext)
        if not is_valid_connection_init(context.connection_params):
            raise ConnectionRejectionError
        context.token = token_from_connection_init(context.connection_params) or context.token
        tenant = (context.connection_params or {}).get("tenantId")
        context.expected_tenant = tenant.strip() if isinstance(tenant, str) else context.expected_tenant
        no_payload: UnsetType = UNSET
        return no_payload

    async def execute_single(
        self,
        request: Request,
        request_adapter: AsyncHTTPRequestAdapter,  # noqa: ARG002 - the base class names these arguments
        sub_response: Response,  # noqa: ARG002
        context: Context,
        root_value: None,
        request_data: GraphQLRequestData,
    ) -> ExecutionResult:
        """Execute a query or mutation and return its result.

        Raises:
            HTTPException: the request has no operation, its operation is a subscription, its method does not allow the
                operation, or its document uses incremental delivery and the client does not accept that.
            RateLimited: the client exceeds a rate limit.
        """
        await self.rate_limiter.check(context)
        try:
            query = await self._connections().persisted_queries.resolve(request_data.query, request_data.extensions)
        except GraphQLError as error:
            return PreExecutionError(data=None, errors=[error])
        request.state.operation = self._schema.document(query), request_data.operation_name
        accept = request.headers.get("accept", "")
        is_incremental = self._schema.uses_incremental_delivery(query, request_data.variables)
        if is_incremental and not accepts_incremental_delivery(accept):
            raise HTTPException(406, incremental_delivery_error("Accept without multipart/mixed").message)
        try:
            result = await self.schema.execute(
                query,
                root_value=root_value,
                variable_values=request_data.variables,
                context_value=context,
                operation_name=request_data.operation_name,
                operation_extensions=request_data.extensions,
                allowed_operation_types=_BY_METHOD[request.method],
            )
            if isinstance(result, ExecutionResult):
                await add_current_tenant(result, context)
            return result
        except MissingQueryError as error:
            raise HTTPException(400, "The request has no query.") from error
        except CannotGetOperationTypeError as error:
            raise HTTPException(400, error.as_http_error_reason()) from error
        except InvalidOperationTypeError as error:
            if error.operation_type is OperationType.MUTATION:
                raise HTTPException(405, "Mutations are taken by POST only.") from error
            raise HTTPException(
                400, "Subscriptions need a websocket, or an Accept header with text/event-stream or multipart/mixed."
            ) from error

    async def process_result(self, request: Request, result: ExecutionResult) -> GraphQLHTTPResponse:
        """Return the body of the response, count the operation, and store its status code in the request's state."""
        if result.errors:
            result.errors = translate(result.errors, request.state.request_id)
        document, name = getattr(request.state, "operation", (None, None))
        self.metrics.count_operation(document, name, result.errors or ())
        request.state.status = http_status(result)
        body: GraphQLHTTPResponse = {} if has_no_data(result) else {"data": result.data}
        if result.errors:
            body["errors"] = [error.formatted for error in result.errors]
        if result.extensions:
            body["extensions"] = result.extensions
        return body

    async def _process_stream_result(
        self, request: Request, value: object, all_pending: list[PendingResult]
    ) -> tuple[GraphQLHTTPResponse, list[PendingResult]]:
        """Return the body of one part of an incremental response, with translated errors."""
        if isinstance(value, SubsequentIncrementalExecutionResult):
            for part in (*(value.incremental or ()), *(value.completed or ())):
                if part.errors:
                    part.errors = translate(part.errors, request.state.request_id)
        return await super()._process_stream_result(request, value, all_pending)

    def parse_json(self, data: str | bytes) -> dict[str, object]:
        """Decode the body of a POST request.

        Raises:
            HTTPException: the body is not a valid request; the reason is the message for the client.
        """
        try:
            body = self.decode_json(data)
        except InvalidJson as error:
            raise HTTPException(400, str(error)) from error
        if not isinstance(body, dict):
            raise HTTPException(400, "The body is not a JSON object.")
        if not isinstance(body.get("operationName"), str | None):
            raise HTTPException(400, "The operationName is not text.")
        return with_document_id(body)

    def should_render_graphql_ide(self, request: BaseRequestProtocol) -> bool:  # noqa: ARG002
        """Return False: GraphiQL has a path of its own, and a GET without a query may name its document by a hash."""
        return False

    def parse_query_params(self, params: QueryParams) -> dict[str, object]:
        """Return the request of a GET. An empty parameter counts as a missing one (GraphQL over HTTP, 6.2.1)."""
        parameters: dict[str, object] = {name: value for name, value in params.items() if value}
        for name in ("variables", "extensions"):
            text = parameters.get(name)
            if isinstance(text, str):
                parameters[name] = _decode_parameter(name, text)
        return with_document_id(parameters)

    def decode_json(self, data: str | bytes) -> object:
        return read_json(data)

    def encode_json(self, data: object) -> str:
        return encode_json(data)


async def _single_error(error: Exception, request_id: str) -> StreamedResults:
    """Yield the error as the only result of a stream."""
    yield PreExecutionError(data=None, errors=translate([GraphQLError("", original_error=error)], request_id))


def _decode_parameter(name: str, text: str) -> dict[str, object] | None:
    try:
        value = read_json(text, what=f"parameter {name}")
    except InvalidJson as error:
        raise HTTPException(400, str(error)) from error
    if value is not None and not isinstance(value, dict):
        raise HTTPException(400, f"The parameter {name} is not a JSON object.")
    return value


def _status(request: Request) -> int:
    """Return the status code that ``process_result`` has stored; 200 if the request was not executed."""
    status: int = getattr(request.state, "status", 200)
    return status
