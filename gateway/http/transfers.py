"""Upload and download of files by signed URLs: streamed between client and storage, never held in memory as a whole.

The rules are enforced here, between the client and any kind of storage, so that a folder and S3 differ in nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.routing import Route

from contracts.storage import FileStorage
from contracts.transfers import DOWNLOADS_PATH, UPLOADS_PATH, TransferSigner
from gateway.http.downloads import Downloads
from gateway.http.transfer_access import FindCaller
from gateway.http.transfer_limits import TransferLimits
from gateway.http.transfer_quota import TransferQuota
from gateway.http.uploads import UploadReservations, Uploads
from infrastructure.quota import Quota


def transfer_routes(
    storage: FileStorage,
    signer: TransferSigner,
    reservations: Callable[[Request], UploadReservations],
    find_caller: FindCaller,
    quota: Quota,
    limits: TransferLimits | None = None,
) -> list[Route]:
    """Return the routes ``PUT /uploads/TOKEN`` and ``GET /downloads/TOKEN``.

    Errors have the shape of GraphQL errors, and the status of the error.

    Args:
        reservations: returns the reservations of the application that a request is for.
        find_caller: returns the user of a grant with the permissions of now.
        quota: counts each client's share in all processes.
    """
    limits = limits or TransferLimits()
    uploads = Uploads(
        storage, signer, reservations, find_caller, TransferQuota("upload", limits.uploads, quota), limits
    )
    downloads = Downloads(storage, signer, find_caller, TransferQuota("download", limits.downloads, quota), limits)
    return [
        Route(f"{UPLOADS_PATH}/{{token}}", uploads.respond, methods=["PUT"]),
        Route(f"{DOWNLOADS_PATH}/{{token}}", downloads.respond, methods=["GET"]),
    ]
