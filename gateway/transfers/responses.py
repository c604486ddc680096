"""Error responses and common headers of the transfer endpoints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from starlette.requests import Request
from starlette.responses import Response

from contracts.errors import DomainError, ServiceUnavailable
from gateway.http.error_responses import domain_error_response, request_id_of
from infrastructure.storage import StorageError

log = structlog.get_logger(__name__)

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "cross-origin",  # the URL is the secret, and frontends of other origins show images
    "Cache-Control": "private, no-store",
    "Referrer-Policy": "no-referrer",
}


def transfer_error_response(error: DomainError, request: Request) -> Response:
    """Return the response for an error of a transfer: a GraphQL error with the status code of the domain error."""
    return domain_error_response(error, request_id_of(request), SECURITY_HEADERS)


@contextmanager
def translate_storage_errors() -> Iterator[None]:
    """Translate errors and timeouts of the storage in the block into ServiceUnavailable, and log them.

    Raises:
        ServiceUnavailable: the storage failed or was too slow.
    """
    try:
        yield
    except (StorageError, TimeoutError) as error:
        log.warning("storage_unavailable", error=repr(error))
        raise ServiceUnavailable(service="storage") from error
