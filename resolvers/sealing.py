"""Words that others keep for us, a cache for instance: encrypted (AES-256-GCM) under the edge's key."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES = 12


class Seal:
    """``purpose`` keeps what is sealed for one thing from being taken for another."""

    def __init__(self, secret: bytes, purpose: str) -> None:
        self._cipher = AESGCM(hmac.new(secret, f"seal\0{purpose}".encode(), hashlib.sha256).digest())

    def close(self, text: str, *, place: str) -> str:
        """``text`` as only who has the key reads it, and only where it was put."""
        nonce = os.urandom(_NONCE_BYTES)
        return base64.b64encode(nonce + self._cipher.encrypt(nonce, text.encode(), place.encode())).decode()

    def open(self, sealed: str, *, place: str) -> str | None:
        """The text again; None where it was not sealed under this key for this place."""
        try:
            raw = base64.b64decode(sealed, validate=True)
            return self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], place.encode()).decode()
        except (InvalidTag, ValueError):
            return None
