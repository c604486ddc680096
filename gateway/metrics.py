"""What the web process counts and measures, under the names that dashboards and alerts use."""

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

_QUICK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_OTHER = "other"
"""What no field of the schema is: names that clients choose never become labels."""

Reading = Callable[[], Mapping[str, float]]
"""What a part has counted itself, by its label."""


class Metrics:
    """One a process; everything in it goes to ``registry``, and what an operation is to its span."""

    def __init__(self, registry: CollectorRegistry, schema: GraphQLSchema, spans: Spans | None = None) -> None:
        self._registry = registry
        self._schema = schema
        self._spans = spans
        self.operations = Counter(
            "gateway_operations",
            "Root fields that clients asked for, by the code of the first error on them, or OK.",
            ("operation", "code"),
            registry=registry,
        )
        self.subscriptions = Gauge(
            "gateway_subscriptions_open", "Subscriptions under way.", ("transport",), registry=registry
        )
        self.refusals = Counter(
            "gateway_refusals", "What clients were refused, by the kind of refusal.", ("kind",), registry=registry
        )
        self.lag = Histogram(
            "gateway_delivery_lag_seconds",
            "From an event's time in Temporal's history to its state being handed to subscribers here.",
            buckets=_QUICK,
            registry=registry,
        )
        self.temporal = Histogram(
            "gateway_temporal_request_seconds",
            "Requests of Temporal, by what was asked and how it ended.",
            ("call", "code"),
            buckets=_QUICK,
            registry=registry,
        )

    def count_refusals(self, kind: str, count: int) -> None:
        """Count refusals by kind only: clients are no labels, the log names them."""
        self.refusals.labels(kind).inc(count)

    def gauge(self, name: str, about: str, label: str, reading: Reading) -> None:
        """A gauge whose values are read when somebody asks."""
        self._registry.register(_Read(lambda: GaugeMetricFamily(name, about, labels=(label,)), reading))

    def counter(self, name: str, about: str, label: str, reading: Reading) -> None:
        self._registry.register(_Read(lambda: CounterMetricFamily(name, about, labels=(label,)), reading))

    @contextmanager
    def subscription(self, transport: str) -> Iterator[None]:
        """While the block runs there is one more."""
        gauge = self.subscriptions.labels(transport)
        gauge.inc()
        try:
            yield
        finally:
            gauge.dec()

    def count(self, document: DocumentNode | None, name: str | None, errors: Iterable[GraphQLError] = ()) -> None:
        """Each root field of what was asked, once. What a stream answers later counts with how it began."""
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
                known = root is not None and field.name.value in root.fields
                key = field.alias.value if field.alias else field.name.value
                code = next((code for path, code in codes if path in (key, None)), "OK")
                names.append(field.name.value if known else _OTHER)
                self.operations.labels(names[-1], code).inc()
        if self._spans:
            self._spans.describe_operation(operation.operation.value, names, [code for _, code in codes])

    def operation(self, headers: Headers, extensions: object) -> AbstractContextManager[None]:
        """Around an operation of a socket, whose client tells of its own trace with it, or told so at the handshake:
        a browser's page can only do the former.
        """
        if self._spans is None:
            return nullcontext()
        told = extensions.get("traceparent") if isinstance(extensions, dict) else None
        return self._spans.operation_span(told if isinstance(told, str) else headers.get("traceparent"))

    def timed_temporal(self) -> Interceptor:
        """For the client: each request is measured."""
        return _Timed(self.temporal)


class _Read(Collector):
    def __init__(self, family: Callable[[], GaugeMetricFamily | CounterMetricFamily], reading: Reading) -> None:
        self._family = family
        self._reading = reading

    def collect(self) -> Iterable[Metric]:
        family = self._family()
        for label, value in self._reading().items():
            family.add_metric((label,), value)
        yield family


class _Timed(Interceptor):
    def __init__(self, seconds: Histogram) -> None:
        self._seconds = seconds

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _TimedCalls(next, self._seconds)


class _TimedCalls(OutboundInterceptor):
    """Long-polls of histories are left out: how long they take says nothing."""

    def __init__(self, next: OutboundInterceptor, seconds: Histogram) -> None:
        super().__init__(next)
        self._seconds = seconds

    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
        with _Stopwatch(self._seconds, "start_workflow"):
            return await super().start_workflow(input)

    async def describe_workflow(self, input: DescribeWorkflowInput) -> Any:
        with _Stopwatch(self._seconds, "describe_workflow"):
            return await super().describe_workflow(input)

    async def start_workflow_update(self, input: StartWorkflowUpdateInput) -> WorkflowUpdateHandle[Any]:
        with _Stopwatch(self._seconds, "update_workflow"):
            return await super().start_workflow_update(input)


class _Stopwatch:
    def __init__(self, seconds: Histogram, call: str) -> None:
        self._seconds = seconds
        self._call = call

    def __enter__(self) -> None:
        self._begun = time.perf_counter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        code = "OK" if error is None else error.status.name if isinstance(error, RPCError) else type(error).__name__
        self._seconds.labels(self._call, code).observe(time.perf_counter() - self._begun)
