"""Response traces: a summary of the calls that one GraphQL execution made, returned in ``extensions.trace``.

The summary is derived from the OpenTelemetry spans that the execution creates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from opentelemetry.context import Context, attach, create_key, detach, get_value, set_value
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import SpanKind, Tracer, get_current_span
from redis.asyncio import Redis
from temporalio.client import CancelWorkflowInput, DescribeWorkflowInput, Interceptor, OutboundInterceptor

from contracts.operations import kind_of
from infrastructure.caching.cache import Cache
from infrastructure.observability.spans import TEMPORAL_TRACER, WORKFLOW_ID, Spans

TemporalUrl: TypeAlias = Callable[[str], str | None]
"""A function that returns the URL of an operation's page in Temporal's UI by its id, if there is a UI."""

_DEPENDENCIES = {
    "opentelemetry.instrumentation.httpx": "services",
    TEMPORAL_TRACER: "temporal",
    "opentelemetry.instrumentation.redis": "redis",
}
"""The dependency that is called, by the name of the span's tracer."""
_CACHE_READ = "cache_read"
_TRACE = create_key("response-trace")
_MAX_SPANS = 1_000
_MAX_OPERATIONS = 20


class ResponseTrace:
    """Collects the spans of one execution.

    A call that several executions share (single flight, batching) belongs to the execution that started it.
    """

    def __init__(self, temporal_url: TemporalUrl) -> None:
        self._temporal_url = temporal_url
        self._spans: list[ReadableSpan] = []
        self._is_open = True

    def add(self, span: ReadableSpan) -> None:
        """Record a span, up to ``_MAX_SPANS`` spans."""
        if self._is_open and len(self._spans) < _MAX_SPANS:
            self._spans.append(span)

    def close(self) -> None:
        """Discard the spans and record no further ones: tasks of the execution, such as a watcher, may outlive it."""
        self._is_open = False
        self._spans.clear()

    def summary(self) -> dict[str, object]:
        """Return ``extensions.trace``: calls and their duration per dependency, reads of the cache, and operations."""
        calls: dict[str, list[float]] = {dependency: [] for dependency in _DEPENDENCIES.values()}
        hits = misses = 0
        operations: dict[str, None] = {}
        for span in self._spans:
            scope = span.instrumentation_scope
            dependency = _DEPENDENCIES.get(scope.name) if scope else None
            if dependency is not None and span.start_time is not None and span.end_time is not None:
                calls[dependency].append((span.end_time - span.start_time) / 1e6)
            for event in span.events:
                if event.name == _CACHE_READ:
                    hits += _number(event.attributes, "hits")
                    misses += _number(event.attributes, "misses")
            id = str((span.attributes or {}).get(WORKFLOW_ID, ""))
            if kind_of(id) is not None and len(operations) < _MAX_OPERATIONS:
                operations[id] = None
        return {
            **{name: {"calls": len(times), "ms": round(sum(times), 1)} for name, times in calls.items()},
            "cache": {"hits": hits, "misses": misses},
            "operations": [{"id": id, "temporalUrl": self._temporal_url(id)} for id in operations],
        }


class ResponseTraces:
    """Records the spans of GraphQL executions.

    Args:
        spans: The spans of the process.
        temporal_url: Returns the URL of an operation's page in Temporal's UI.
        is_always_on: Record each execution instead of only those whose request asks for a trace.
    """

    def __init__(self, spans: Spans, temporal_url: TemporalUrl, *, is_always_on: bool) -> None:
        self._spans = spans
        self._temporal_url = temporal_url
        self._is_always_on = is_always_on
        self._tracer = spans.provider.get_tracer("adx.response")
        spans.provider.add_span_processor(_ExecutionSpanProcessor())

    def is_requested(self, extensions: Mapping[str, object] | None) -> bool:
        """Return whether the response contains a trace; a request asks for it by ``extensions: {trace: true}``."""
        return self._is_always_on or (extensions or {}).get("trace") is True

    @contextmanager
    def recording(self) -> Iterator[ResponseTrace]:
        """Record the spans that the block creates, in any task."""
        trace = ResponseTrace(self._temporal_url)
        token = attach(set_value(_TRACE, trace))
        try:
            with self._tracer.start_as_current_span("execution"):
                yield trace
        finally:
            detach(token)
            trace.close()

    def set_operation(self, id: str) -> None:
        """Add the operation that the execution follows to the trace."""
        get_current_span().set_attribute(WORKFLOW_ID, id)

    def instrument_redis(self, client: Redis) -> None:
        """Trace each command and pipeline of the client."""
        RedisInstrumentor.instrument_client(client, tracer_provider=self._spans.provider)

    def temporal_interceptor(self) -> Interceptor:
        """Return an interceptor for the calls that the SDK's own tracing interceptor does not trace."""
        return _TracingInterceptor(self._spans.provider.get_tracer(TEMPORAL_TRACER))


class _ExecutionSpanProcessor(SpanProcessor):
    """Adds each span to the response trace of the execution that creates the span."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        trace = get_value(_TRACE, parent_context)
        if isinstance(trace, ResponseTrace):
            trace.add(span)


class _TracingInterceptor(Interceptor):
    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _TracingOutboundInterceptor(next, self._tracer)


class _TracingOutboundInterceptor(OutboundInterceptor):
    """Traces describe and cancel calls.

    The workflow id is set after the start of the span: ``RequestRootedSampler`` begins a trace for spans that have the
    id at their start, and these calls must not begin one.
    """

    def __init__(self, next: OutboundInterceptor, tracer: Tracer) -> None:
        super().__init__(next)
        self._tracer = tracer

    async def describe_workflow(self, input: DescribeWorkflowInput) -> Any:
        with self._tracer.start_as_current_span("DescribeWorkflow", kind=SpanKind.CLIENT) as span:
            span.set_attribute(WORKFLOW_ID, input.id)
            return await super().describe_workflow(input)

    async def cancel_workflow(self, input: CancelWorkflowInput) -> None:
        with self._tracer.start_as_current_span("CancelWorkflow", kind=SpanKind.CLIENT) as span:
            span.set_attribute(WORKFLOW_ID, input.id)
            await super().cancel_workflow(input)


class TracedCache:
    """A ``Cache`` that records the hits and misses of each read in the current span."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self.set_many, self.add, self.replace, self.delete = cache.set_many, cache.add, cache.replace, cache.delete

    async def get_many(self, keys: Sequence[str]) -> dict[str, str] | None:
        """Read and count values. Keys that begin with ``cache:tag:`` are not counted: they hold versions of tags."""
        values = await self._cache.get_many(keys)
        hits = [key in (values or {}) for key in keys if not key.startswith("cache:tag:")]
        get_current_span().add_event(_CACHE_READ, {"hits": sum(hits), "misses": len(hits) - sum(hits)})
        return values


def _number(attributes: Mapping[str, object] | None, name: str) -> int:
    value = (attributes or {}).get(name)
    return value if isinstance(value, int) else 0
