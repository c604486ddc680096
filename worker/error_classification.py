"""Classify an unexpected error of an activity: how often to retry it, and which error the user finally sees."""

from __future__ import annotations

import socket
from dataclasses import dataclass

import aiosmtplib
import asyncpg
import httpx
import redis.exceptions
from obstore.exceptions import BaseError
from tortoise.exceptions import DBConnectionError

from contracts.errors import DeadlineExceeded, DomainError, ServiceUnavailable
from workflows.options import EXTERNAL, NETWORK, TIMEOUT, RetrySchedule


@dataclass(frozen=True)
class ErrorClass:
    """The retry schedule of a class of errors.

    ``final_error`` is the operation's error once all attempts have failed; None if the cause is unknown.
    """

    retry: RetrySchedule
    final_error: DomainError | None

    @property
    def message(self) -> str:
        """The text for the user."""
        return self.final_error.message if self.final_error else "Something went wrong here."


_TIMEOUT_ERRORS = (TimeoutError, httpx.TimeoutException, redis.exceptions.TimeoutError)
_NETWORK_ERRORS = (
    ConnectionError,
    socket.gaierror,
    httpx.TransportError,
    redis.exceptions.ConnectionError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # the server starts or stops, or ended the connection
    asyncpg.TooManyConnectionsError,
    DBConnectionError,
)
_EXTERNAL_ERRORS = (httpx.HTTPStatusError, redis.exceptions.RedisError, BaseError)
_MAIL_ERRORS = (aiosmtplib.SMTPException,)


def classify(error: BaseException) -> ErrorClass:
    """Classify the error by its type or the type of a cause; an unknown error is retried as a network error."""
    unavailable = ServiceUnavailable("A service does not answer.")
    each: BaseException | None = error
    while each is not None:
        if isinstance(each, _MAIL_ERRORS):  # also if its cause is a timeout: mail servers are unavailable for minutes
            return ErrorClass(EXTERNAL, ServiceUnavailable("The mail server does not take e-mail now."))
        if isinstance(each, _TIMEOUT_ERRORS):
            return ErrorClass(TIMEOUT, DeadlineExceeded("A service takes too long to answer."))
        if isinstance(each, _NETWORK_ERRORS) or _is_lost_connection(each):
            return ErrorClass(NETWORK, unavailable)
        if isinstance(each, _EXTERNAL_ERRORS):
            return ErrorClass(EXTERNAL, unavailable)
        each = each.__cause__
    return ErrorClass(NETWORK, None)


def _is_lost_connection(error: BaseException) -> bool:
    """Whether asyncpg found the connection closed; it has no class of its own for this error."""
    return isinstance(error, asyncpg.InterfaceError) and "closed" in str(error)
