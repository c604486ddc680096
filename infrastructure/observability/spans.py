"""Spans of OpenTelemetry: what begins one, how it passes from process to process, and which facts may leave in it."""

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

_FLUSH_SECONDS = 3.0
"""That a process waits at its end for a collector to take the last spans."""
WORKFLOW_ID = "temporalWorkflowID"
"""The attribute under which the SDK notes a workflow's id."""
TEMPORAL_TRACER = "adx.temporal"
"""The tracer of calls of Temporal."""
_SHOWN = frozenset(
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
"""All that a span tells. Libraries note more: addresses with their queries, statements, words of exceptions."""
_STATEMENTS = ("db.statement", "db.query.text")
_RESET = "SELECT pg_advisory_unlock_all()"
"""With what each connection goes back into its pool: as many spans as statements, and nothing that anybody asked."""
_TABLE = re.compile(r'(?:FROM|INTO|UPDATE)\s+"(\w+)"')
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


class Spans:
    """The spans of one process. Without an exporter they stay in the process."""

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
            set_global_textmap(self._propagator)  # without baggage, in which a client could send us anything

    def temporal(self) -> TracingInterceptor:
        """For the client, from which workers take it too."""
        interceptor = TracingInterceptor(self.provider.get_tracer(TEMPORAL_TRACER))
        interceptor.text_map_propagator = self._propagator
        return interceptor

    def calls(self, http: httpx.AsyncClient) -> None:
        """Each request of the client is a span, named by its path: no path of a service holds anything but names."""
        HTTPXClientInstrumentor.instrument_client(http, tracer_provider=self.provider, request_hook=_by_path)

    def requests(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> ASGIApp:
        """The application, each of whose HTTP requests is a span, however long its answer. A websocket is none: it may
        last for days; what is asked on it is.
        """

        def details(scope: Scope) -> tuple[str, dict[str, str]]:
            method, route = scope["method"] if scope["method"] in _METHODS else "?", _pattern_of(scope, routes)
            return f"{method} {route}", {"http.route": route}

        served = OpenTelemetryMiddleware(
            app,
            excluded_urls="/healthz$,/readyz$",
            default_span_details=details,
            tracer_provider=self.provider,
            exclude_spans=["receive", "send"],
        )

        async def traced(scope: Scope, receive: Receive, send: Send) -> None:
            await (served if scope["type"] == "http" else app)(scope, receive, send)

        return traced

    @contextmanager
    def operation(self, traceparent: str | None) -> Iterator[None]:
        """What the block does is one span, begun by a client; ``told`` says what it is."""
        parent = extract({"traceparent": traceparent}, Context()) if traceparent else Context()
        with self.tracer.start_as_current_span("operation", parent, SpanKind.SERVER):
            yield

    def told(self, kind: str, fields: Sequence[str], codes: Sequence[str]) -> None:
        """Of which kind the operation is, its root fields, and the codes of the errors that it was answered with."""
        span = get_current_span()
        span.update_name(f"{kind} {' '.join(fields)}"[:120])
        span.set_attributes(
            {"graphql.operation.type": kind, "graphql.operation.fields": fields, "graphql.codes": codes}
        )

    def named(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        """A line of the log, with the trace that it is of."""
        context = get_current_span().get_span_context()
        if context.is_valid:
            event["trace_id"] = format_trace_id(context.trace_id)
        return event

    def close(self) -> None:
        """Send what is still here, for a few seconds at most."""
        closing = threading.Thread(target=self.provider.shutdown, name="send the last spans", daemon=True)
        closing.start()
        closing.join(_FLUSH_SECONDS)


class RequestRootedSampler(Sampler):
    """As the standard variables say; but what a process does of its own accord, like looking whether the database is
    there, begins no trace. A workflow that it starts does.
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
        given = attributes or {}
        if kind is SpanKind.CLIENT and not has_parent and WORKFLOW_ID not in given:
            return SamplingResult(Decision.DROP)
        if any(str(given.get(each, "")).startswith(_RESET) for each in _STATEMENTS):
            return SamplingResult(Decision.DROP)
        return self._sampler.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        return f"FromRequests({self._sampler.get_description()})"


class RedactingExporter(SpanExporter):
    """Sends spans on with nothing in them but what is known to be no secret."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self._exporter.export([_known(span) for span in spans])

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _known(span: ReadableSpan) -> ReadableSpan:
    given = span.attributes or {}
    attributes: dict[str, AttributeValue] = {name: value for name, value in given.items() if name in _SHOWN}
    kind = kind_of(str(given.get(WORKFLOW_ID, "")))
    if kind is not None:
        attributes["adx.kind"] = kind.value
    statement = next((str(given[name]) for name in _STATEMENTS if name in given), "")
    table = _TABLE.search(statement)
    name = f"{span.name} {table[1]}" if table else span.name.rstrip(";")
    return ReadableSpan(
        name,
        span.context,
        span.parent,
        span.resource,
        attributes,
        [_class_alone(event) for event in span.events if event.name == "exception"],
        [Link(link.context) for link in span.links],
        span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _class_alone(event: Event) -> Event:
    """Of an exception: its words may quote a row, an address or a password."""
    told: Mapping[str, AttributeValue] = event.attributes or {}
    return Event("exception", {"exception.type": told.get("exception.type", "")}, event.timestamp)


async def _by_path(span: Span, request: RequestInfo) -> None:
    assert isinstance(request.url, httpx.URL)
    span.update_name(f"POST {request.url.path}")


def _pattern_of(scope: Scope, routes: Sequence[BaseRoute]) -> str:
    """Of a request's path. Never the path itself, which may hold a token."""
    found = (route for route in routes if route.matches(scope)[0] is not Match.NONE)
    return str(getattr(next(found, None), "path", "?"))
