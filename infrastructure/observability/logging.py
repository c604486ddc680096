"""What every process writes about itself: lines on standard error that say of whom and what they speak.

JSON, and lines for people at a terminal. Who asked, in which request, operation and step, stands in each line that is
written meanwhile; secrets stand in none.
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

HEADER = "adx-about"
"""Of workflows and activities: on whose behalf they are run, as ``log_context`` takes it."""

_about: ContextVar[dict[str, object] | None] = ContextVar("about", default=None)
_HIDDEN = "***"
_OF_TEMPORAL = {"workflow_id": "workflow_id", "activity_type": "activity", "attempt": "attempt"}
_traceback = ExceptionRenderer(ExceptionDictTransformer(show_locals=False))
"""Without variables: they are passwords, tokens and people."""


@contextmanager
def log_context(**facts: object) -> Iterator[None]:
    """Each line that is written while the block runs tells these, and what ``learn`` adds meanwhile."""
    token = _about.set({**(_about.get() or {}), **facts})
    try:
        yield
    finally:
        _about.reset(token)


def learn(**facts: object) -> None:
    """More about what goes on, known only now; also for lines of other tasks of the same block."""
    known = _about.get()
    if known is not None:
        known.update(facts)


def known_fact(name: str) -> object:
    """What is known of what goes on; None where nothing is."""
    return (_about.get() or {}).get(name)


def configure_logs(level: int = logging.INFO) -> None:
    """For this process, lines of libraries among them. In production it writes JSON, whatever it is started from."""
    for_people = sys.stderr.isatty() and os.environ.get("ENVIRONMENT") != Environment.PRODUCTION
    facts: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        with_facts,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        without_secrets,
    ]
    ends: list[Processor] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if for_people
        else [_traceback, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*facts, *ends],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    of_libraries: list[Processor] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(allow=["temporal_workflow", "temporal_activity"]),
        _of_temporal,
    ]
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*of_libraries, *facts],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ends],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    # It logs every error of every execution with its variables, which may be secrets.
    logging.getLogger("strawberry.execution").setLevel(logging.CRITICAL + 1)


def with_facts(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """What is known of what goes on, where the line itself says nothing else; and the kind of its operation."""
    for name, fact in (_about.get() or {}).items():
        if fact is not None:
            event.setdefault(name, fact)
    if "workflow_id" in event and "kind" not in event:
        kind = kind_of(str(event["workflow_id"]))
        if kind is not None:
            event["kind"] = kind.value
    return event


def without_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Nothing whose type says that it is secret; of bytes, and of contracts, which hold people's words, the type."""
    return {name: value if name == "exc_info" else _harmless(value) for name, value in event.items()}


def _harmless(value: Any) -> Any:
    match value:
        case str() | int() | float() | None:
            return value
        case SecretStr() | SecretBytes():
            return _HIDDEN
        case BaseModel():
            return f"<{type(value).__name__}>"
        case bytes() | bytearray() | memoryview():
            return f"<{len(value)} bytes>"
        case dict():
            return {name: _harmless(each) for name, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_harmless(each) for each in value]
    return value


def _of_temporal(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """What Temporal's SDK says a line is about, under our names."""
    for extra in ("temporal_workflow", "temporal_activity"):
        told = event.pop(extra, None) or {}
        event.update({ours: told[theirs] for theirs, ours in _OF_TEMPORAL.items() if theirs in told})
    return event
