"""The responses to failed uploads and downloads, and the headers of all."""

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

SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "cross-origin",  # its address is the secret, and frontends elsewhere show images
    "Cache-Control": "private, no-store",
    "Referrer-Policy": "no-referrer",
}


def refusal(error: DomainError, request: Request) -> Response:
    """Return the error as a response of the routes of transfers."""
    return domain_error_response(error, request_id_of(request), SAFE_HEADERS)


@contextmanager
def storage_errors() -> Iterator[None]:
    """Log that the storage failed or was too slow in the block, and raise ServiceUnavailable."""
    try:
        yield
    except (StorageError, TimeoutError) as error:
        log.warning("storage_unavailable", error=repr(error))
        raise ServiceUnavailable(service="storage") from error
