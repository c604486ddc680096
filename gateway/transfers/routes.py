"""Upload and download of files by signed URLs: streamed between client and storage, never held in memory as a whole.

The rules are enforced here, between the client and any kind of storage, so that a folder and S3 differ in nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.routing import Route

from contracts.transfer_grants import DOWNLOADS_PATH, UPLOADS_PATH
from gateway.transfers.dependencies import TransferDependencies
from gateway.transfers.downloads import Downloads
from gateway.transfers.uploads import UploadReservations, Uploads


def transfer_routes(
    dependencies: TransferDependencies, reservations: Callable[[Request], UploadReservations]
) -> list[Route]:
    """Return the routes ``PUT /uploads/TOKEN`` and ``GET /downloads/TOKEN``.

    Errors have the shape of GraphQL errors, and the status of the error.
    """
    uploads, downloads = Uploads(dependencies, reservations), Downloads(dependencies)
    return [
        Route(f"{UPLOADS_PATH}/{{token}}", uploads.respond, methods=["PUT"]),
        Route(f"{DOWNLOADS_PATH}/{{token}}", downloads.respond, methods=["GET"]),
    ]
