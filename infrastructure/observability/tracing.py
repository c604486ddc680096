"""Start tracing if OpenTelemetry's standard environment variables request it; otherwise no tracing code is loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from infrastructure.observability.spans import Spans

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_SUPPORTED_PROTOCOL = "http/protobuf"

log = structlog.get_logger(__name__)


def is_enabled(environment: Mapping[str, str]) -> bool:
    """Return whether the variables name an OTLP collector and do not switch tracing off."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if environment.get("OTEL_TRACES_EXPORTER", "otlp").strip() != "otlp":
        return False
    return any(environment.get(name) for name in _ENDPOINTS)


@contextmanager
def tracing(process: str) -> Iterator[Spans | None]:
    """Yield the spans of this process while the block runs, and export the last spans at its end.

    Yield None if tracing is not enabled or the variables request an unsupported protocol.

    Args:
        process: The service name of the spans unless OTEL_SERVICE_NAME is set.
    """
    if not is_enabled(os.environ):
        yield None
        return
    protocol = next((os.environ[name] for name in _PROTOCOLS if os.environ.get(name)), _SUPPORTED_PROTOCOL)
    if protocol != _SUPPORTED_PROTOCOL:
        log.warning("tracing_protocol_unsupported", protocol=protocol, supported=_SUPPORTED_PROTOCOL)
        yield None
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # the import is expensive

    from infrastructure.observability.spans import Spans

    spans, processors = Spans(process, OTLPSpanExporter()), structlog.get_config()["processors"]
    structlog.configure(processors=[spans.add_trace_id, *processors])
    try:
        yield spans
    finally:
        structlog.configure(processors=processors)
        spans.close()
