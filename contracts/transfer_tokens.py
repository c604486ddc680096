"""The signed, short-lived addresses under which bytes come in and go out: whoever holds one needs no session."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey
from pydantic import ValidationError

from contracts.base import Contract, utc_now
from contracts.errors import PermissionDenied
from contracts.secret_keys import SecretKeys

UPLOADS_PATH = "/uploads"
DOWNLOADS_PATH = "/downloads"
"""Where the gateway takes bytes in, and gives them out."""


class UploadGrant(Contract):
    """Leave to send ``size`` bytes of this type, once or again. ``checksum``: lower-case hex SHA-256, where known."""

    upload_id: str
    tenant_id: str
    user_id: str
    content_type: str
    size: int
    checksum: str | None = None


class DownloadGrant(Contract):
    """The right of this user to read one file's bytes. The download counts against the user's share of transfers.

    ``permission``: the one by which the user sees the file, and which they must still have.
    """

    tenant_id: str
    user_id: str
    permission: str
    storage_key: str
    name: str
    content_type: str
    size: int


Grant = TypeVar("Grant", UploadGrant, DownloadGrant)


class TransferSigner:
    """Signs and reads grants (JWT, HS256, RFC 7519), under a key derived from that of the files service.

    Grants that were signed with a former key are still read.
    """

    def __init__(self, keys: SecretKeys, clock: Callable[[], datetime] = utc_now) -> None:
        self._clock = clock
        self._keys = [OctKey.import_key(hmac.new(key, b"transfers", hashlib.sha256).digest()) for key in keys.all]

    def upload_path(self, grant: UploadGrant, expires_at: datetime) -> str:
        return f"{UPLOADS_PATH}/{self._sign(grant, expires_at)}"

    def download_path(self, grant: DownloadGrant, expires_at: datetime) -> str:
        return f"{DOWNLOADS_PATH}/{self._sign(grant, expires_at)}"

    def read(self, token: str, kind: type[Grant]) -> Grant:
        """The grant; PermissionDenied where the token is forged, stale or of the other kind."""
        now = int(self._clock().timestamp())
        rules = jwt.JWTClaimsRegistry(now, aud={"essential": True, "value": kind.__name__}, exp={"essential": True})
        for key in self._keys:
            try:
                claims = jwt.decode(token, key, algorithms=["HS256"]).claims
                rules.validate(claims)
                return kind.model_validate(claims["grant"])
            except (JoseError, ValidationError, ValueError, KeyError) as error:
                refusal = error
        raise PermissionDenied("This address has expired or is not one of ours.") from refusal

    def _sign(self, grant: Contract, expires_at: datetime) -> str:
        claims = {
            "aud": type(grant).__name__,
            "exp": int(expires_at.timestamp()),
            "grant": grant.model_dump(mode="json", exclude_none=True),
        }
        return jwt.encode({"alg": "HS256"}, claims, self._keys[0])
