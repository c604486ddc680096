"""A collector of traces: takes OTLP over HTTP, and keeps what it was sent."""

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

_KEPT = 1_000


@dataclass(frozen=True)
class Seen:
    """A span, and the name of the process that it was made in. Ids are in hexadecimal; no parent: an empty one."""

    process: str
    name: str
    trace: str
    id: str
    parent: str
    facts: dict[str, str]
    events: tuple[str, ...]


@dataclass
class Collector:
    """``bodies``: what came, as it came."""

    url: str = ""
    bodies: deque[bytes] = field(default_factory=lambda: deque(maxlen=_KEPT))

    def spans(self, trace: str | None = None) -> list[Seen]:
        """Of that trace, or all; in the order in which they came."""
        return [span for body in tuple(self.bodies) for span in _read(body) if trace in (None, span.trace)]

    def wait_for(self, trace: str, whole: Callable[[list[Seen]], bool], seconds: float = 30) -> list[Seen]:
        """The spans of the trace, once they are whole; AssertionError with what has come where they never are."""
        deadline = time.monotonic() + seconds
        while not whole(spans := self.spans(trace)):
            assert time.monotonic() < deadline, "\n".join(f"{span.process}: {span.name}" for span in spans)
            time.sleep(0.1)
        return spans


@contextmanager
def collecting() -> Iterator[Collector]:
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


def _read(body: bytes) -> Iterator[Seen]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        about = {each.key: each.value.string_value for each in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Seen(
                    about["service.name"],
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    {each.key: _text(each.value) for each in span.attributes},
                    tuple(event.name for event in span.events),
                )
