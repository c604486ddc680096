"""OpenTelemetry spans of a process: which work creates spans, how their context is propagated, and what is exported."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import httpx
from opentelemetry.context import Context
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor, RequestInfo
from opentelemetry.propagate import extract, set_global_textmap
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, Span, SpanKind, Status, TraceState, format_trace_id, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import Attributes, AttributeValue
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send
from structlog.typing import EventDict, WrappedLogger
from temporalio.contrib.opentelemetry import TracingInterceptor

from contracts.operations import kind_of

_FLUSH_TIMEOUT_SECONDS = 3.0
"""Time for which a process that ends waits until the collector has received the last spans."""
WORKFLOW_ID = "temporalWorkflowID"
"""The span attribute in which Temporal's SDK stores the workflow id."""
TEMPORAL_TRACER = "adx.temporal"
"""Name of the tracer of calls to Temporal."""
_EXPORTED_ATTRIBUTES = frozenset(
    (
        WORKFLOW_ID,
        "temporalRunID",
        "temporalActivityID",
        "graphql.operation.type",
        "graphql.operation.fields",
        "graphql.codes",
        "http.method",
        "http.request.method",
        "http.route",
        "http.status_code",
        "http.response.status_code",
        "db.system",
        "db.system.name",
        "error.type",
    )
)
"""The only attributes that are exported. Libraries add others, such as URLs with queries, and SQL statements."""
_STATEMENT_ATTRIBUTES = ("db.statement", "db.query.text")
_CONNECTION_RESET = "SELECT pg_advisory_unlock_all()"
"""The statement that resets a connection before it returns to its pool; it is not traced, as it follows each query."""
_TABLE = re.compile(r'(?:FROM|INTO|UPDATE)\s+"(\w+)"')
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


class Spans:
    """Creates the spans of one process.

    Args:
        process: The service name unless OTEL_SERVICE_NAME is set.
        exporter: Receives the spans; with None they are not exported.
    """

    def __init__(self, process: str, exporter: SpanExporter | None) -> None:
        resource = Resource.create()
        if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: process}))
        self.provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self.provider.sampler = RequestRootedSampler(self.provider.sampler)
        if exporter is not None:
            self.provider.add_span_processor(BatchSpanProcessor(RedactingExporter(exporter)))
        self.tracer = self.provider.get_tracer("adx")
        self._propagator = TraceContextTextMapPropagator()
        if "OTEL_PROPAGATORS" not in os.environ:
            set_global_textmap(self._propagator)  # without baggage, in which a client could send arbitrary data

    def temporal_interceptor(self) -> TracingInterceptor:
        """Return an interceptor for Temporal's client that traces its calls and the work of its workers."""
        interceptor = TracingInterceptor(self.provider.get_tracer(TEMPORAL_TRACER))
        interceptor.text_map_propagator = self._propagator
        return interceptor

    def instrument_http_client(self, http: httpx.AsyncClient) -> None:
        """Trace each request of the client; the span is named by the path, because paths of services contain no ids."""
        HTTPXClientInstrumentor.instrument_client(http, tracer_provider=self.provider, request_hook=_name_by_path)

    def trace_requests(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> ASGIApp:
        """Return the application with a span for each HTTP request.

        A websocket connection has no span because it may last for days; each GraphQL operation on it has one.
        """

        def details(scope: Scope) -> tuple[str, dict[str, str]]:
            method, route = scope["method"] if scope["method"] in _METHODS else "?", _route_of(scope, routes)
            return f"{method} {route}", {"http.route": route}

        traced_app = OpenTelemetryMiddleware(
            app,
            excluded_urls="/healthz$,/readyz$",
            default_span_details=details,
            tracer_provider=self.provider,
            exclude_spans=["receive", "send"],
        )

        async def traced(scope: Scope, receive: Receive, send: Send) -> None:
            await (traced_app if scope["type"] == "http" else app)(scope, receive, send)

        return traced

    @contextmanager
    def operation_span(self, traceparent: str | None) -> Iterator[None]:
        """Trace the block as one GraphQL operation, as a child of the client's span if there is a ``traceparent``.

        ``describe_operation`` adds the name and the attributes of the operation.
        """
        parent = extract({"traceparent": traceparent}, Context()) if traceparent else Context()
        with self.tracer.start_as_current_span("operation", parent, SpanKind.SERVER):
            yield

    def describe_operation(self, kind: str, fields: Sequence[str], codes: Sequence[str]) -> None:
        """Set the name and the attributes of the current span of a GraphQL operation.

        Args:
            kind: query, mutation or subscription.
            fields: The root fields.
            codes: The codes of the errors in the response.
        """
        span = get_current_span()
        span.update_name(f"{kind} {' '.join(fields)}"[:120])
        span.set_attributes(
            {"graphql.operation.type": kind, "graphql.operation.fields": fields, "graphql.codes": codes}
        )

    def add_trace_id(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        """Add the id of the current trace to a log line (structlog processor)."""
        context = get_current_span().get_span_context()
        if context.is_valid:
            event["trace_id"] = format_trace_id(context.trace_id)
        return event

    def close(self) -> None:
        """Export the remaining spans, and wait for that for a few seconds at most."""
        closing = threading.Thread(target=self.provider.shutdown, name="send the last spans", daemon=True)
        closing.start()
        closing.join(_FLUSH_TIMEOUT_SECONDS)


class RequestRootedSampler(Sampler):
    """Samples traces that begin with a request or with a workflow.

    Calls that a process makes on its own, such as health checks of the database, begin no trace. For all other spans
    the sampler that the standard variables configure decides.
    """

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        has_parent = get_current_span(parent_context).get_span_context().is_valid
        initial = attributes or {}
        if kind is SpanKind.CLIENT and not has_parent and WORKFLOW_ID not in initial:
            return SamplingResult(Decision.DROP)
        if any(str(initial.get(each, "")).startswith(_CONNECTION_RESET) for each in _STATEMENT_ATTRIBUTES):
            return SamplingResult(Decision.DROP)
        return self._sampler.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        return f"RequestRootedSampler({self._sampler.get_description()})"


class RedactingExporter(SpanExporter):
    """Exports spans with only those attributes and events that are known to contain no secrets."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self._exporter.export([_redact(span) for span in spans])

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _redact(span: ReadableSpan) -> ReadableSpan:
    original = span.attributes or {}
    attributes: dict[str, AttributeValue] = {
        name: value for name, value in original.items() if name in _EXPORTED_ATTRIBUTES
    }
    kind = kind_of(str(original.get(WORKFLOW_ID, "")))
    if kind is not None:
        attributes["adx.kind"] = kind.value
    statement = next((str(original[name]) for name in _STATEMENT_ATTRIBUTES if name in original), "")
    table = _TABLE.search(statement)
    name = f"{span.name} {table[1]}" if table else span.name.rstrip(";")
    return ReadableSpan(
        name,
        span.context,
        span.parent,
        span.resource,
        attributes,
        [_redact_exception(event) for event in span.events if event.name == "exception"],
        [Link(link.context) for link in span.links],
        span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _redact_exception(event: Event) -> Event:
    """Return an exception event with the class only: the message may contain a row, an address or a password."""
    original: Mapping[str, AttributeValue] = event.attributes or {}
    return Event("exception", {"exception.type": original.get("exception.type", "")}, event.timestamp)


async def _name_by_path(span: Span, request: RequestInfo) -> None:
    assert isinstance(request.url, httpx.URL)
    span.update_name(f"POST {request.url.path}")


def _route_of(scope: Scope, routes: Sequence[BaseRoute]) -> str:
    """Return the path pattern of the request's route; never the path itself, which may contain a token."""
    matching = (route for route in routes if route.matches(scope)[0] is not Match.NONE)
    return str(getattr(next(matching, None), "path", "?"))
