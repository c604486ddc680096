"""What one GraphQL execution called, derived from the spans that it caused: ``extensions.trace`` of its response."""

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

LinkOf: TypeAlias = Callable[[str], str | None]
"""From an operation's id to its page in Temporal's UI."""

_PARTS = {
    "opentelemetry.instrumentation.httpx": "services",
    TEMPORAL_TRACER: "temporal",
    "opentelemetry.instrumentation.redis": "redis",
}
"""The part of the product that is called, by the tracer of the span."""
_CACHE_READ = "cache_read"
_TRACE = create_key("response-trace")
_MAX_SPANS = 1_000
_MAX_OPERATIONS = 20


class ResponseTrace:
    """The spans of one execution. A call that several executions share belongs to the one that began it."""

    def __init__(self, link_of: LinkOf) -> None:
        self._link_of = link_of
        self._spans: list[ReadableSpan] = []
        self._is_open = True

    def add(self, span: ReadableSpan) -> None:
        if self._is_open and len(self._spans) < _MAX_SPANS:
            self._spans.append(span)

    def close(self) -> None:
        """Keep nothing more: tasks of the execution, such as a watcher, may outlive it."""
        self._is_open = False
        self._spans.clear()

    def summary(self) -> dict[str, object]:
        """Return ``extensions.trace``: calls and their time per part, reads of the cache, and the operations."""
        calls: dict[str, list[float]] = {part: [] for part in _PARTS.values()}
        hits = misses = 0
        operations: dict[str, None] = {}
        for span in self._spans:
            scope = span.instrumentation_scope
            part = _PARTS.get(scope.name) if scope else None
            if part is not None and span.start_time is not None and span.end_time is not None:
                calls[part].append((span.end_time - span.start_time) / 1e6)
            for event in span.events:
                if event.name == _CACHE_READ:
                    hits += _number(event.attributes, "hits")
                    misses += _number(event.attributes, "misses")
            id = str((span.attributes or {}).get(WORKFLOW_ID, ""))
            if kind_of(id) is not None and len(operations) < _MAX_OPERATIONS:
                operations[id] = None
        return {
            **{part: {"calls": len(times), "ms": round(sum(times), 1)} for part, times in calls.items()},
            "cache": {"hits": hits, "misses": misses},
            "operations": [{"id": id, "temporalUrl": self._link_of(id)} for id in operations],
        }


class ResponseTraces:
    """Records the spans of executions. With ``is_always_on`` of each; otherwise of those that request it."""

    def __init__(self, spans: Spans, link_of: LinkOf, *, is_always_on: bool) -> None:
        self._spans = spans
        self._link_of = link_of
        self._is_always_on = is_always_on
        self._tracer = spans.provider.get_tracer("adx.response")
        spans.provider.add_span_processor(_SpansOfExecutions())

    def is_requested(self, extensions: Mapping[str, object] | None) -> bool:
        """Whether the response carries a trace; a request asks for it by ``extensions: {trace: true}``."""
        return self._is_always_on or (extensions or {}).get("trace") is True

    @contextmanager
    def recording(self) -> Iterator[ResponseTrace]:
        """Record the spans that the block causes, in whichever task."""
        trace = ResponseTrace(self._link_of)
        token = attach(set_value(_TRACE, trace))
        try:
            with self._tracer.start_as_current_span("execution"):
                yield trace
        finally:
            detach(token)
            trace.close()

    def note_operation(self, id: str) -> None:
        """Name the operation that the execution follows."""
        get_current_span().set_attribute(WORKFLOW_ID, id)

    def redis(self, client: Redis) -> None:
        """Make each command and pipeline of the client a span."""
        RedisInstrumentor.instrument_client(client, tracer_provider=self._spans.provider)

    def temporal(self) -> Interceptor:
        """Make those calls spans that Temporal's own interceptor leaves out."""
        return _Calls(self._spans.provider.get_tracer(TEMPORAL_TRACER))


class _SpansOfExecutions(SpanProcessor):
    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        trace = get_value(_TRACE, parent_context)
        if isinstance(trace, ResponseTrace):
            trace.add(span)


class _Calls(Interceptor):
    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _TracedCalls(next, self._tracer)


class _TracedCalls(OutboundInterceptor):
    """Sets the id after the start of the span, so that a call outside any trace begins none (``FromRequests``)."""

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
    """Notes in the current span which keys a read of the cache found."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self.set_many, self.add, self.replace, self.delete = cache.set_many, cache.add, cache.replace, cache.delete

    async def get_many(self, keys: Sequence[str]) -> dict[str, str] | None:
        """Count values only: keys that begin with ``cache:tag:`` have the versions of tags."""
        values = await self._cache.get_many(keys)
        found = [key in (values or {}) for key in keys if not key.startswith("cache:tag:")]
        get_current_span().add_event(_CACHE_READ, {"hits": sum(found), "misses": len(found) - sum(found)})
        return values


def _number(attributes: Mapping[str, object] | None, name: str) -> int:
    value = (attributes or {}).get(name)
    return value if isinstance(value, int) else 0
