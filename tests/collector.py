"""An OpenTelemetry collector for tests: it receives spans as OTLP over HTTP and stores them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

_MAX_BODIES = 1_000


@dataclass(frozen=True)
class CollectedSpan:
    """A span, and the service name of its process. Ids are hexadecimal; ``parent`` is empty for a root span."""

    process: str
    name: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, str]
    events: tuple[str, ...]


@dataclass
class Collector:
    """The address of the collector and the bodies of the requests that it received."""

    url: str = ""
    bodies: deque[bytes] = field(default_factory=lambda: deque(maxlen=_MAX_BODIES))

    def spans(self, trace: str | None = None) -> list[CollectedSpan]:
        """Return the spans of a trace, or all spans, in the order in which they arrived."""
        return [span for body in tuple(self.bodies) for span in _read(body) if trace in (None, span.trace)]

    def wait_for(
        self, trace: str, is_complete: Callable[[list[CollectedSpan]], bool], seconds: float = 30
    ) -> list[CollectedSpan]:
        """Wait until the spans of the trace are complete, and return them.

        Raises:
            AssertionError: They are not complete in time; the message lists the spans that have arrived.
        """
        deadline = time.monotonic() + seconds
        while not is_complete(spans := self.spans(trace)):
            assert time.monotonic() < deadline, "\n".join(f"{span.process}: {span.name}" for span in spans)
            time.sleep(0.1)
        return spans


@contextmanager
def running_collector() -> Iterator[Collector]:
    """Run a collector on a free port."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200 if self.path == "/v1/traces" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    collector.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, name="collect traces", daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _text(value: AnyValue) -> str:
    if value.HasField("array_value"):
        return ",".join(map(_text, value.array_value.values))
    return value.string_value or str(value.int_value)


def _read(body: bytes) -> Iterator[CollectedSpan]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        resource_attributes = {each.key: each.value.string_value for each in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield CollectedSpan(
                    resource_attributes["service.name"],
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    {each.key: _text(each.value) for each in span.attributes},
                    tuple(event.name for event in span.events),
                )
