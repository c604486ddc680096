"""What a worker process writes about itself: structured lines on standard error."""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.processors import ExceptionRenderer
from structlog.tracebacks import ExceptionDictTransformer

_traceback = ExceptionRenderer(ExceptionDictTransformer(show_locals=False))
"""Without variables: they are passwords, tokens and people."""


def configure_logs(level: int = logging.INFO) -> None:
    """Lines for people at a terminal, JSON elsewhere."""
    renderer = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if sys.stderr.isatty() else [_traceback]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    # It logs every error of every execution with its variables, which may be secrets.
    logging.getLogger("strawberry.execution").setLevel(logging.CRITICAL + 1)
