"""Words that others keep for us, a cache for instance: encrypted (AES-256-GCM) under the edge's key."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from contextlib import suppress

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from contracts.secret_keys import SecretKeys

_NONCE_BYTES = 12


class Encryptor:
    """``purpose`` keeps what is sealed for one thing from being taken for another."""

    def __init__(self, keys: SecretKeys, purpose: str) -> None:
        self._ciphers = [
            AESGCM(hmac.new(key, f"seal\0{purpose}".encode(), hashlib.sha256).digest()) for key in keys.all
        ]

    def close(self, text: str, *, place: str) -> str:
        """``text`` as only who has the key reads it, and only where it was put."""
        nonce = os.urandom(_NONCE_BYTES)
        return base64.b64encode(nonce + self._ciphers[0].encrypt(nonce, text.encode(), place.encode())).decode()

    def open(self, sealed: str, *, place: str) -> str | None:
        """The text again; None where it was not sealed under one of these keys for this place."""
        for cipher in self._ciphers:
            with suppress(InvalidTag, ValueError):
                raw = base64.b64decode(sealed, validate=True)
                return cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], place.encode()).decode()
        return None
