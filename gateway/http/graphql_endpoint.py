"""GraphQL over HTTP and websockets: requests in, executions of the schema, answers out."""

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
from strawberry.asgi import GraphQL
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
from gateway.http.stream_formats import StreamFormat, accepts_json, negotiate_stream_format
from gateway.lifecycle import Connections
from gateway.metrics import Metrics
from gateway.security.client_network import client_network
from gateway.security.rate_limits import RateLimiter
from gateway.sessions.session_cache import (
    HttpSessionCookie,
    NullCookie,
    base_url,
    device_from_request,
    is_secure,
    is_valid_connection_init,
    login_tokens_from_request,
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
from gateway.websocket.handler import CLOSE_SERVICE_RESTART, SocketHandler
from gateway.websocket.websocket_adapter import SocketAdapter
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
    """The context of a socket, whose token comes with ``connection_init``."""

    connection_params: dict[str, object] | None = None


@dataclass(frozen=True)
class EndpointParts:
    """What the endpoint is made of. ``connections`` returns the open connections while the application runs."""

    schema: Schema
    connections: Callable[[], Connections]
    streams: ConnectionRegistry
    patience: KeepAliveSettings
    limits: SocketLimits
    requests: RateLimiter
    quota: Quota
    metrics: Metrics
    allowed_origins: Sequence[str] = ()
    public_url: str | None = None


class GraphQLEndpoint(GraphQL[Context, None]):
    """HTTP and graphql-transport-ws. Of POST only JSON is taken, which no other site's form can send with a cookie; by
    GET nothing can be changed.
    """

    websocket_adapter_class = SocketAdapter
    graphql_transport_ws_handler_class = SocketHandler

    def __init__(self, parts: EndpointParts) -> None:
        super().__init__(
            parts.schema,
            graphql_ide=None,
            subscription_protocols=(GRAPHQL_TRANSPORT_WS_PROTOCOL,),
            connection_init_wait_timeout=timedelta(seconds=parts.limits.init_seconds),
            max_subscriptions_per_connection=None,  # our own limit tells when to come again
            allowed_origins=parts.allowed_origins,
        )
        self._schema = parts.schema
        self._connections = parts.connections
        self.streams = parts.streams
        self.patience = parts.patience
        self.limits = parts.limits
        self.requests = parts.requests
        self.metrics = parts.metrics
        self.quota = parts.quota
        self.sharing = SubscriptionMultiplexer()
        self.public_url = parts.public_url

    @property
    def sessions(self) -> SessionMonitor:
        return self._connections().sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._open_socket(WebSocket(scope, receive=receive, send=send))
            return
        request = Request(scope, receive=receive)
        response: ASGIApp
        async with AsyncExitStack() as stay:
            try:
                response = await self._answer(request, stay)
            except HTTPException as error:
                answer = error_response(bad_request(error.reason), error.status_code, request_id_of(request))
                response = negotiate_media_type(answer, request.headers.get("accept", ""), error.status_code)
            except RateLimited as error:
                response = domain_error_response(error, request_id_of(request))
            await response(scope, receive, send)

    async def _open_socket(self, socket: WebSocket) -> None:
        if self.streams.stopping:
            # Accepted first: that a handshake fails, graphql-ws takes as final.
            await socket.accept(await self.pick_websocket_subprotocol(socket))
            await socket.close(CLOSE_SERVICE_RESTART, "Restarting")
            return
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self.quota.acquire(self.limits.of_address(client_network(socket))))
            except RateLimited as error:
                await socket.accept(await self.pick_websocket_subprotocol(socket))
                record_refusal(Refusal.QUOTA)
                await socket.close(CLOSE_RATE_LIMITED, str(error))
            else:
                await self.run(socket)

    async def _answer(self, request: Request, stay: AsyncExitStack) -> ASGIApp:
        """The answer, once for all, or as a stream where it is one and the client asked for that.

        A stream has a place until ``stay`` ends.
        """
        accept = request.headers.get("accept", "")
        wire = negotiate_stream_format(accept)
        if wire is None:
            return negotiate_media_type(await self.run(request), accept, _status(request))
        asked = await self.parse_http_body(self.request_adapter_class(request))
        assert isinstance(asked, GraphQLRequestData), "batches have been refused"
        try:
            asked.query = await self._connections().documents.text(asked.query, asked.extensions)
        except GraphQLError:
            is_stream: bool | None = False  # the answer in one piece says why
        else:
            is_stream = is_subscription(self._schema.document(asked.query), asked.operation_name)
        if is_stream or (is_stream is None and not accepts_json(accept)):
            await stay.enter_async_context(self.quota.acquire(self.limits.of_address(client_network(request))))
            return await self._stream(request, asked, wire, stay)
        answer = await self.run(request)
        return (
            negotiate_media_type(answer, accept, _status(request))
            if accepts_json(accept)
            else as_single_event_stream(answer)
        )

    async def _stream(
        self, request: Request, asked: GraphQLRequestData, wire: StreamFormat, stay: AsyncExitStack
    ) -> EventStream:
        context = await self.get_context(request, await self.get_sub_response(request))
        await self.requests.check(context)
        context.following.last_event_id = request.headers.get("last-event-id") or None
        context.following.start()
        question = GraphQLRequest(asked.query, asked.variables, asked.operation_name, asked.extensions)
        try:
            session = await context.viewer()
        except Exception as error:  # noqa: BLE001 - the viewer is unknown: the stream yields the error and ends
            session, results = None, _refused(error, context.request_id)
        else:
            results = self.sharing.subscribe(question, context, self.schema.subscribe)
        self.metrics.count(self._schema.document(asked.query), asked.operation_name)
        stay.enter_context(self.metrics.subscription(wire.name))
        subscription = StreamedSubscription(results, wire, context, session)
        return EventStream(subscription, self.streams, self.patience, self.sessions)

    def read(self, query: str | None) -> DocumentNode | None:
        return self._schema.document(query)

    async def document(self, query: str | None, extensions: object) -> str | None:
        """Return the text of the document that a message names or contains. Raises GraphQLError."""
        return await self._connections().documents.text(query, extensions if isinstance(extensions, dict) else None)

    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> Context:
        backend = self._connections().backend
        request_id: str = request.state.request_id
        address = self.public_url or base_url(request)
        secure = is_secure(request)
        token = token_from_request(request)
        logins = login_tokens_from_request(request, secure=secure)
        if isinstance(response, Response):
            cookie: SessionCookie = HttpSessionCookie(response, secure=secure, logins=logins)
            kind: type[Context] = Context
        else:
            cookie, kind = NullCookie(), SocketContext
        client = ClientInfo(
            client_network(request), device_from_request(request, secure=secure), request.state.client_digest
        )
        return kind(
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
        """The result; a request without an operation, or with a subscription, which has no place here, is refused.

        So is one that asks for an answer in parts and does not say that it understands them.
        """
        await self.requests.check(context)
        try:
            query = await self._connections().documents.text(request_data.query, request_data.extensions)
        except GraphQLError as error:
            return PreExecutionError(data=None, errors=[error])
        request.state.asked = self._schema.document(query), request_data.operation_name
        if self._schema.uses_incremental_delivery(query, request_data.variables) and not _accepts_incremental_delivery(
            request
        ):
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
                400, "Subscriptions are served over websockets, or to who accepts text/event-stream or multipart/mixed."
            ) from error

    async def process_result(self, request: Request, result: ExecutionResult) -> GraphQLHTTPResponse:
        """As it goes out. What failed outside the execution itself has not been translated yet."""
        if result.errors:
            result.errors = translate(result.errors, request.state.request_id)
        document, name = getattr(request.state, "asked", (None, None))
        self.metrics.count(document, name, result.errors or ())
        request.state.status = http_status(result)
        answer: GraphQLHTTPResponse = {} if has_no_data(result) else {"data": result.data}
        if result.errors:
            answer["errors"] = [error.formatted for error in result.errors]
        if result.extensions:
            answer["extensions"] = result.extensions
        return answer

    async def _process_stream_result(
        self, request: Request, value: object, all_pending: list[PendingResult]
    ) -> tuple[GraphQLHTTPResponse, list[PendingResult]]:
        """One part of an answer as it goes out; a later part brings its errors as they were raised."""
        if isinstance(value, SubsequentIncrementalExecutionResult):
            for part in (*(value.incremental or ()), *(value.completed or ())):
                if part.errors:
                    part.errors = translate(part.errors, request.state.request_id)
        return await super()._process_stream_result(request, value, all_pending)

    def parse_json(self, data: str | bytes) -> dict[str, object]:
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
        """Never: the explorer has a page of its own, and a GET without a query may name its document by hash."""
        return False

    def parse_query_params(self, params: QueryParams) -> dict[str, object]:
        """A parameter that is empty is one that is left out (GraphQL over HTTP, 6.2.1), and so is JSON's null."""
        given: dict[str, object] = {name: value for name, value in params.items() if value}
        for name in ("variables", "extensions"):
            text = given.get(name)
            if isinstance(text, str):
                given[name] = _read_parameter(name, text)
        return with_document_id(given)

    def decode_json(self, data: str | bytes) -> object:
        return read_json(data)

    def encode_json(self, data: object) -> str:
        return encode_json(data)


async def _refused(error: Exception, request_id: str) -> StreamedResults:
    yield PreExecutionError(data=None, errors=translate([GraphQLError("", original_error=error)], request_id))


def _read_parameter(name: str, text: str) -> dict[str, object] | None:
    try:
        value = read_json(text, what=f"parameter {name}")
    except InvalidJson as error:
        raise HTTPException(400, str(error)) from error
    if value is not None and not isinstance(value, dict):
        raise HTTPException(400, f"The parameter {name} is not a JSON object.")
    return value


def _accepts_incremental_delivery(request: Request) -> bool:
    """Whether the client reads ``multipart/mixed`` as parts of one answer, and not as a subscription's results."""
    kinds = (kind.strip().lower() for kind in request.headers.get("accept", "").split(","))
    return any(kind.partition(";")[0].strip() == "multipart/mixed" and "subscriptionspec" not in kind for kind in kinds)


def _status(request: Request) -> int:
    status: int = getattr(request.state, "status", 200)
    return status
