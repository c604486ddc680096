"""Encryption (AES-256-GCM) of text that other systems store for the gateway, for example a shared cache."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from contextlib import suppress

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from infrastructure.signing.secret_keys import SecretKeys

_NONCE_BYTES = 12


class Encryptor:
    """Encrypts text with the current key and decrypts it with the current or a former key.

    Args:
        keys: the gateway's secret keys.
        purpose: separates keys by use: text encrypted for one purpose cannot be decrypted for another.
    """

    def __init__(self, keys: SecretKeys, purpose: str) -> None:
        self._ciphers = [
            AESGCM(hmac.new(key, f"seal\0{purpose}".encode(), hashlib.sha256).digest()) for key in keys.all
        ]

    def encrypt(self, text: str, *, associated_data: str) -> str:
        """Return the encrypted text in base 64.

        ``associated_data``, for example the key under which the text is stored, is needed again for decryption.
        """
        nonce = os.urandom(_NONCE_BYTES)
        ciphertext = self._ciphers[0].encrypt(nonce, text.encode(), associated_data.encode())
        return base64.b64encode(nonce + ciphertext).decode()

    def decrypt(self, encrypted: str, *, associated_data: str) -> str | None:
        """Return the text, or None if it was encrypted with an unknown key or with other associated data."""
        for cipher in self._ciphers:
            with suppress(InvalidTag, ValueError):
                raw = base64.b64decode(encrypted, validate=True)
                return cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], associated_data.encode()).decode()
        return None
