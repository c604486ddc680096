"""The routes for the upload and download of files by signed URLs.

Files are streamed between client and storage and are never in memory as a whole. The limits and checks are enforced
here and not in the storage, so that they are the same for a folder and for S3.
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

    An error response has the format of GraphQL errors and the status code of the domain error.

    Args:
        reservations: returns the client that reserves space for the upload of a request.
    """
    uploads, downloads = Uploads(dependencies, reservations), Downloads(dependencies)
    return [
        Route(f"{UPLOADS_PATH}/{{token}}", uploads.respond, methods=["PUT"]),
        Route(f"{DOWNLOADS_PATH}/{{token}}", downloads.respond, methods=["GET"]),
    ]
