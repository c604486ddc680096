"""What kind of trouble an activity ran into: how often it is worth another try, and what a user may read of it."""

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
    """``answer``: what the operation fails with once all tries are used up; None where nobody can say."""

    retry: RetrySchedule
    answer: DomainError | None

    @property
    def message(self) -> str:
        return self.answer.message if self.answer else "Something went wrong here."


_TIMEOUTS = (TimeoutError, httpx.TimeoutException, redis.exceptions.TimeoutError)
_NETWORK = (
    ConnectionError,
    socket.gaierror,
    httpx.TransportError,
    redis.exceptions.ConnectionError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # it starts, stops or was asked to let go
    asyncpg.TooManyConnectionsError,
    DBConnectionError,
)
_EXTERNAL = (httpx.HTTPStatusError, redis.exceptions.RedisError, BaseError)
_MAIL = (aiosmtplib.SMTPException,)


def classify(error: BaseException) -> ErrorClass:
    """By the error or what caused it: libraries wrap. Unknown trouble is tried as network trouble is."""
    silent = ServiceUnavailable("A service does not answer.")
    each: BaseException | None = error
    while each is not None:
        if isinstance(each, _MAIL):  # silence and lost connections among it: mail servers are away for minutes
            return ErrorClass(EXTERNAL, ServiceUnavailable("The mail server does not take e-mail now."))
        if isinstance(each, _TIMEOUTS):
            return ErrorClass(TIMEOUT, DeadlineExceeded("A service takes too long to answer."))
        if isinstance(each, _NETWORK) or _is_of_a_lost_connection(each):
            return ErrorClass(NETWORK, silent)
        if isinstance(each, _EXTERNAL):
            return ErrorClass(EXTERNAL, silent)
        each = each.__cause__
    return ErrorClass(NETWORK, None)


def _is_of_a_lost_connection(error: BaseException) -> bool:
    """asyncpg has no class for it where a statement, or the rollback behind one that failed, finds it closed."""
    return isinstance(error, asyncpg.InterfaceError) and "closed" in str(error)
