"""Whether this process traces what it does, as OpenTelemetry's standard variables say; where not, nothing is loaded."""

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
_SPOKEN = "http/protobuf"

log = structlog.get_logger(__name__)


def is_enabled(environment: Mapping[str, str]) -> bool:
    """Whether there is a collector to send to, and nothing says that none is sent."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if environment.get("OTEL_TRACES_EXPORTER", "otlp").strip() != "otlp":
        return False
    return any(environment.get(name) for name in _ENDPOINTS)


@contextmanager
def tracing(process: str) -> Iterator[Spans | None]:
    """What makes this process's spans while the block runs, and sends the last of them at its end; None where nobody
    wants any. ``process`` is its name where OTEL_SERVICE_NAME gives no other.
    """
    if not is_enabled(os.environ):
        yield None
        return
    asked = next((os.environ[name] for name in _PROTOCOLS if os.environ.get(name)), _SPOKEN)
    if asked != _SPOKEN:
        log.warning("no traces are sent: this process speaks another protocol", asked=asked, spoken=_SPOKEN)
        yield None
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # costs memory and time

    from infrastructure.observability.spans import Spans

    spans, written = Spans(process, OTLPSpanExporter()), structlog.get_config()["processors"]
    structlog.configure(processors=[spans.named, *written])
    try:
        yield spans
    finally:
        structlog.configure(processors=written)
        spans.close()
