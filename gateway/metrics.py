"""The Prometheus metrics of the web process. Dashboards and alerts use their names."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from graphql import DocumentNode, FieldNode, GraphQLError, GraphQLSchema, get_operation_ast
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.datastructures import Headers
from temporalio.client import (
    DescribeWorkflowInput,
    Interceptor,
    OutboundInterceptor,
    StartWorkflowInput,
    StartWorkflowUpdateInput,
    WorkflowHandle,
    WorkflowUpdateHandle,
)
from temporalio.service import RPCError

if TYPE_CHECKING:
    from infrastructure.observability.spans import Spans

_LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_OTHER = "other"
"""Label for fields that the schema does not have: names that clients choose never become labels."""

ReadValues = Callable[[], Mapping[str, float]]
"""Returns the present values of a metric by the value of its label."""


class Metrics:
    """The metrics of one process.

    Args:
        registry: the registry that exports the metrics.
        schema: the GraphQL schema, whose field names become labels.
        spans: also receives the type, fields and error codes of each GraphQL operation; None: no tracing.
    """

    def __init__(self, registry: CollectorRegistry, schema: GraphQLSchema, spans: Spans | None = None) -> None:
        self._registry = registry
        self._schema = schema
        self._spans = spans
        self.operations = Counter(
            "gateway_operations",
            "Requested root fields, by the code of the first error in their response, or OK.",
            ("operation", "code"),
            registry=registry,
        )
        self.subscriptions = Gauge(
            "gateway_subscriptions_open", "Subscriptions in progress.", ("transport",), registry=registry
        )
        self.refusals = Counter(
            "gateway_refusals", "Refused requests, by the kind of refusal.", ("kind",), registry=registry
        )
        self.lag = Histogram(
            "gateway_delivery_lag_seconds",
            "Time from an event in Temporal's history to the delivery of its state to subscribers of this process.",
            buckets=_LATENCY_BUCKETS,
            registry=registry,
        )
        self.temporal = Histogram(
            "gateway_temporal_request_seconds",
            "Duration of requests to Temporal, by method and status code.",
            ("call", "code"),
            buckets=_LATENCY_BUCKETS,
            registry=registry,
        )

    def count_refusals(self, kind: str, count: int) -> None:
        """Count refused requests by their kind. Clients do not become labels; the log names them."""
        self.refusals.labels(kind).inc(count)

    def add_gauge(self, name: str, help_text: str, label: str, read_values: ReadValues) -> None:
        """Register a gauge whose values are read at each scrape."""
        self._registry.register(
            _CallbackCollector(lambda: GaugeMetricFamily(name, help_text, labels=(label,)), read_values)
        )

    def add_counter(self, name: str, help_text: str, label: str, read_values: ReadValues) -> None:
        """Register a counter whose values are read at each scrape."""
        self._registry.register(
            _CallbackCollector(lambda: CounterMetricFamily(name, help_text, labels=(label,)), read_values)
        )

    @contextmanager
    def open_subscription(self, transport: str) -> Iterator[None]:
        """Count one more open subscription of the transport while the block runs."""
        gauge = self.subscriptions.labels(transport)
        gauge.inc()
        try:
            yield
        finally:
            gauge.dec()

    def count_operation(
        self, document: DocumentNode | None, name: str | None, errors: Iterable[GraphQLError] = ()
    ) -> None:
        """Count each root field of a GraphQL operation once, by its error code. A subscription counts when it starts.

        Args:
            document: the document of the request; None if it could not be parsed.
            name: the name of the operation in the document; None if the document has only one operation.
            errors: the errors of the response.
        """
        operation = get_operation_ast(document, name) if document else None
        codes = [
            (error.path[0] if error.path else None, str((error.extensions or {}).get("code", "INTERNAL")))
            for error in errors
        ]
        if operation is None:
            self.operations.labels(_OTHER, codes[0][1] if codes else "OK").inc()
            return
        root = self._schema.get_root_type(operation.operation)
        names = []
        for field in operation.selection_set.selections:
            if isinstance(field, FieldNode):
                is_in_schema = root is not None and field.name.value in root.fields
                key = field.alias.value if field.alias else field.name.value
                code = next((code for path, code in codes if path in (key, None)), "OK")
                names.append(field.name.value if is_in_schema else _OTHER)
                self.operations.labels(names[-1], code).inc()
        if self._spans:
            self._spans.describe_operation(operation.operation.value, names, [code for _, code in codes])

    def operation_span(self, headers: Headers, extensions: object) -> AbstractContextManager[None]:
        """Return a context manager that records an operation of a websocket as a span.

        The span continues the client's trace: the ``traceparent`` in the extensions of the operation, else the one in
        the headers of the handshake, which the page of a browser cannot set.
        """
        if self._spans is None:
            return nullcontext()
        traceparent = extensions.get("traceparent") if isinstance(extensions, dict) else None
        return self._spans.operation_span(traceparent if isinstance(traceparent, str) else headers.get("traceparent"))

    def temporal_interceptor(self) -> Interceptor:
        """Return a client interceptor that measures the duration of requests to Temporal."""
        return _TimingInterceptor(self.temporal)


class _CallbackCollector(Collector):
    """A metric whose values a function returns at each scrape."""

    def __init__(
        self, create_family: Callable[[], GaugeMetricFamily | CounterMetricFamily], read_values: ReadValues
    ) -> None:
        self._create_family = create_family
        self._read_values = read_values

    def collect(self) -> Iterable[Metric]:
        """Yield the metric with its present values."""
        family = self._create_family()
        for label, value in self._read_values().items():
            family.add_metric((label,), value)
        yield family


class _TimingInterceptor(Interceptor):
    """Measures requests of a Temporal client."""

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _TimingOutboundInterceptor(next, self._histogram)


class _TimingOutboundInterceptor(OutboundInterceptor):
    """Measures each request except long-polls of histories, which last until the next event."""

    def __init__(self, next: OutboundInterceptor, histogram: Histogram) -> None:
        super().__init__(next)
        self._histogram = histogram

    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
        with _Stopwatch(self._histogram, "start_workflow"):
            return await super().start_workflow(input)

    async def describe_workflow(self, input: DescribeWorkflowInput) -> Any:
        with _Stopwatch(self._histogram, "describe_workflow"):
            return await super().describe_workflow(input)

    async def start_workflow_update(self, input: StartWorkflowUpdateInput) -> WorkflowUpdateHandle[Any]:
        with _Stopwatch(self._histogram, "update_workflow"):
            return await super().start_workflow_update(input)


class _Stopwatch:
    """Observes the duration and the status code of its block."""

    def __init__(self, histogram: Histogram, method: str) -> None:
        self._histogram = histogram
        self._method = method

    def __enter__(self) -> None:
        self._started_at = time.perf_counter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        code = "OK" if error is None else error.status.name if isinstance(error, RPCError) else type(error).__name__
        self._histogram.labels(self._method, code).observe(time.perf_counter() - self._started_at)
