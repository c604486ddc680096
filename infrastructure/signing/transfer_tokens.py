"""Transfer tokens: signed, short-lived URLs that grant an upload or a download without a session."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from datetime import datetime

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey
from pydantic import ValidationError

from contracts.base import Contract, utc_now
from contracts.errors import PermissionDenied
from contracts.transfer_grants import DOWNLOADS_PATH, UPLOADS_PATH, DownloadGrant, Grant, UploadGrant
from infrastructure.signing.secret_keys import SecretKeys


class TransferTokenSigner:
    """Signs and verifies transfer tokens (JWT, HS256, RFC 7519).

    Args:
        keys: The keys of the files service, from which the signing keys are derived. Tokens that were signed with a
            previous key are still accepted.
        clock: Returns the current time.
    """

    def __init__(self, keys: SecretKeys, clock: Callable[[], datetime] = utc_now) -> None:
        self._clock = clock
        self._keys = [OctKey.import_key(hmac.new(key, b"transfers", hashlib.sha256).digest()) for key in keys.all]

    def upload_path(self, grant: UploadGrant, expires_at: datetime) -> str:
        """Return the path, with a token, under which the client uploads the bytes."""
        return f"{UPLOADS_PATH}/{self._sign(grant, expires_at)}"

    def download_path(self, grant: DownloadGrant, expires_at: datetime) -> str:
        """Return the path, with a token, under which the client downloads the bytes."""
        return f"{DOWNLOADS_PATH}/{self._sign(grant, expires_at)}"

    def read(self, token: str, kind: type[Grant]) -> Grant:
        """Verify the token and return its grant.

        Raises:
            PermissionDenied: The token is forged, expired or of the other kind.
        """
        now = int(self._clock().timestamp())
        rules = jwt.JWTClaimsRegistry(now, aud={"essential": True, "value": kind.__name__}, exp={"essential": True})
        for key in self._keys:
            try:
                claims = jwt.decode(token, key, algorithms=["HS256"]).claims
                rules.validate(claims)
                return kind.model_validate(claims["grant"])
            except (JoseError, ValidationError, ValueError, KeyError) as error:
                refusal = error
        raise PermissionDenied("This URL is invalid or has expired.") from refusal

    def _sign(self, grant: Contract, expires_at: datetime) -> str:
        claims = {
            "aud": type(grant).__name__,
            "exp": int(expires_at.timestamp()),
            "grant": grant.model_dump(mode="json", exclude_none=True),
        }
        return jwt.encode({"alg": "HS256"}, claims, self._keys[0])
