"""Structured logging for every process: one line per event on standard error, as JSON or, in a terminal, as text.

Each line contains the values that are bound to the current context (user, tenant, request id, workflow id, activity).
Secrets are removed from every line.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import structlog
from pydantic import BaseModel, SecretBytes, SecretStr
from structlog.processors import ExceptionRenderer
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, Processor, WrappedLogger

from contracts.operations import kind_of
from infrastructure.settings_validation import Environment

LOG_CONTEXT_HEADER = "adx-about"
"""Header of workflows and activities that carries the values for ``log_context``: user, tenant and request id."""

_bound: ContextVar[dict[str, object] | None] = ContextVar("log context", default=None)
_REDACTED = "***"
_TEMPORAL_KEYS = {"workflow_id": "workflow_id", "activity_type": "activity", "attempt": "attempt"}
_traceback = ExceptionRenderer(ExceptionDictTransformer(show_locals=False))
"""Tracebacks without local variables, which may contain passwords, tokens and personal data."""


@contextmanager
def log_context(**values: object) -> Iterator[None]:
    """Add the values, and those that ``bind`` adds, to each log line that is written while the block runs."""
    token = _bound.set({**(_bound.get() or {}), **values})
    try:
        yield
    finally:
        _bound.reset(token)


def bind(**values: object) -> None:
    """Add values to the current ``log_context``, also for log lines of other tasks that run within the same block."""
    bound = _bound.get()
    if bound is not None:
        bound.update(values)


def get_bound(name: str) -> object:
    """Return a value of the current ``log_context``; None if it is not bound."""
    return (_bound.get() or {}).get(name)


def configure_logs(level: int = logging.INFO) -> None:
    """Configure the log of this process, including log lines of libraries.

    Lines are JSON, except in a terminal outside production.
    """
    is_terminal = sys.stderr.isatty() and os.environ.get("ENVIRONMENT") != Environment.PRODUCTION
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        add_context,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        redact,
    ]
    renderers: list[Processor] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if is_terminal
        else [_traceback, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*common, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    library_processors: list[Processor] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(allow=["temporal_workflow", "temporal_activity"]),
        _rename_temporal_keys,
    ]
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*library_processors, *common],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    # Strawberry logs every error of every execution with the variables of the request, which may be secrets.
    logging.getLogger("strawberry.execution").setLevel(logging.CRITICAL + 1)


def add_context(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add the bound values that the line does not set itself, and the kind of its operation (structlog processor)."""
    for name, value in (_bound.get() or {}).items():
        if value is not None:
            event.setdefault(name, value)
    if "workflow_id" in event and "kind" not in event:
        kind = kind_of(str(event["workflow_id"]))
        if kind is not None:
            event["kind"] = kind.value
    return event


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Remove secrets from the line (structlog processor).

    Values of secret types are replaced by ``***``, bytes by their number, and models by the name of their type, because
    they contain text that users entered.
    """
    return {name: value if name == "exc_info" else _redact_value(value) for name, value in event.items()}


def _redact_value(value: Any) -> Any:
    match value:
        case str() | int() | float() | None:
            return value
        case SecretStr() | SecretBytes():
            return _REDACTED
        case BaseModel():
            return f"<{type(value).__name__}>"
        case bytes() | bytearray() | memoryview():
            return f"<{len(value)} bytes>"
        case dict():
            return {name: _redact_value(each) for name, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_redact_value(each) for each in value]
    return value


def _rename_temporal_keys(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace the extra data of log lines of Temporal's SDK by values under the names that this project uses."""
    for key in ("temporal_workflow", "temporal_activity"):
        extra = event.pop(key, None) or {}
        event.update({name: extra[sdk_name] for sdk_name, name in _TEMPORAL_KEYS.items() if sdk_name in extra})
    return event
