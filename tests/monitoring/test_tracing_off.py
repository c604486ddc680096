"""Tracing costs nothing if it is not enabled; if it is, the last spans are exported before a process ends."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.app import create_app
from gateway.dependencies import Dependencies
from infrastructure.observability.tracing import is_enabled
from tests.collector import running_collector
from tests.gateway.fakes import FakeServices, settings
from tests.stack import ROOT, plain_environment

PRINT_LOADED_MODULES = """
import sys
import gateway.__main__, worker.__main__
from infrastructure.observability.tracing import tracing
with tracing("any") as spans:
    assert spans is None
parts = [f"opentelemetry.{part}" for part in ("sdk.trace", "exporter", "instrumentation")]
parts = (*parts, "temporalio.contrib.opentelemetry")
print([name for name in sys.modules if name.startswith(parts)])
"""
CREATE_ONE_SPAN = """
from infrastructure.temporal.connection import exit_process
from infrastructure.observability.tracing import tracing
with tracing("any") as spans:
    if spans:
        with spans.operation_span(None):
            spans.describe_operation("query", ["viewer"], [])
exit_process(0)
"""
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


def run(program: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    variables = plain_environment() | environment
    done = subprocess.run([sys.executable, "-c", program], env=variables, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {ENDPOINT: ""},
        {ENDPOINT: "http://127.0.0.1:4318", "OTEL_SDK_DISABLED": "true"},
        {ENDPOINT: "http://127.0.0.1:4318", "OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_SERVICE_NAME": "gateway"},
    ],
)
def test_tracing_is_off_without_collector_or_if_disabled(environment: dict[str, str]) -> None:
    assert not is_enabled(environment)


def test_tracing_is_on_with_the_address_of_a_collector() -> None:
    assert is_enabled({ENDPOINT: "http://127.0.0.1:4318"})
    assert is_enabled({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"})


def test_disabled_tracing_loads_no_opentelemetry_module() -> None:
    """Except the modules for metrics, which redis-py loads if the packages are installed."""
    assert run(PRINT_LOADED_MODULES, {}).stdout.strip() == "[]"


async def test_disabled_tracing_adds_no_middleware(temporal_address: str, tmp_path: Path) -> None:
    app = create_app(settings(temporal_address, data_dir=tmp_path), Dependencies(services=FakeServices().transport))
    async with app.router.lifespan_context(app):
        interceptors = app.connections.temporal.config()["interceptors"]
        assert [type(each).__module__ for each in interceptors] == [
            "gateway.request_context_interceptor",
            "gateway.metrics",
        ]
    assert not [each for each in app.user_middleware if "spans" in getattr(each.cls, "__module__", "")]


def test_last_spans_are_sent_before_a_process_ends() -> None:
    with running_collector() as collector:
        run(
            CREATE_ONE_SPAN,
            {ENDPOINT: collector.url, "OTEL_BSP_SCHEDULE_DELAY": "60000", "OTEL_SERVICE_NAME": "by another name"},
        )
        (span,) = collector.spans()
    assert (span.process, span.name) == ("by another name", "query viewer")


def test_unsampled_spans_are_not_sent() -> None:
    with running_collector() as collector:
        run(CREATE_ONE_SPAN, {ENDPOINT: collector.url, "OTEL_TRACES_SAMPLER": "always_off"})
        assert collector.spans() == []


def test_unavailable_collector_does_not_block_the_end_of_a_process() -> None:
    began = time.monotonic()
    run(CREATE_ONE_SPAN, {ENDPOINT: "http://127.0.0.1:9"})
    assert time.monotonic() - began < 10


def test_unsupported_protocol_is_logged() -> None:
    done = run(CREATE_ONE_SPAN, {ENDPOINT: "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
    assert "tracing_protocol_unsupported" in done.stdout + done.stderr
