"""The rights that a transfer token grants: to upload or to download the bytes of one file."""

from __future__ import annotations

from typing import TypeVar

from contracts.base import Contract

UPLOADS_PATH = "/uploads"
DOWNLOADS_PATH = "/downloads"
"""The paths of the gateway's upload and download endpoints."""


class UploadGrant(Contract):
    """The right to upload ``size`` bytes, more than once if needed.

    ``checksum``: SHA-256 in lower-case hexadecimal digits; None if the client has not declared it.
    """

    upload_id: str
    tenant_id: str
    user_id: str
    content_type: str
    size: int
    checksum: str | None = None


class DownloadGrant(Contract):
    """The right of a user to download one file. The download counts against the user's quota of transfers.

    ``permission``: the permission by which the user can see the file, and which the user must still have.
    """

    tenant_id: str
    user_id: str
    permission: str
    storage_key: str
    name: str
    content_type: str
    size: int


Grant = TypeVar("Grant", UploadGrant, DownloadGrant)
