"""Payload codec: encrypts the data that Temporal stores with AES-256-GCM.

Each payload contains the id of its key, so that keys can be rotated.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadCodec

_ENCODING = b"binary/encrypted"
_NONCE_BYTES = 12


class PayloadDecryptionFailed(Exception):
    """A payload cannot be decrypted: its key is not in the key ring, or its data has changed (see the message)."""


class KeyRing:
    """Encryption keys by id: the first key encrypts, all keys decrypt.

    Args:
        keys: Keys of 32 bytes by id, the current key first.

    Raises:
        ValueError: There is no key, or a key has another length.
    """

    def __init__(self, keys: dict[str, bytes]) -> None:
        if not keys:
            raise ValueError("A key ring needs at least one key.")
        if any(len(key) != 32 for key in keys.values()):
            raise ValueError("Each encryption key is 32 bytes.")
        self.current = next(iter(keys))
        self.ciphers = {name: AESGCM(key) for name, key in keys.items()}

    @classmethod
    def parse(cls, text: str) -> KeyRing:
        """Read a key ring of the form ``id:base64[,id:base64...]``.

        Raises:
            ValueError: The text does not have this form, two keys have the same id, or a key does not have 32 bytes.
        """
        pairs = [part.strip().partition(":") for part in text.split(",") if part.strip()]
        keys = {name: base64.b64decode(key, validate=True) for name, _, key in pairs}
        if len(keys) < len(pairs) or "" in keys:
            raise ValueError("Each encryption key has an id of its own.")
        return cls(keys)


class EncryptionCodec(PayloadCodec):
    """Encrypts whole payloads, including their metadata. Payloads that are not encrypted are decoded unchanged."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [self._encrypt(payload) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [self._decrypt(payload) for payload in payloads]

    def _encrypt(self, payload: Payload) -> Payload:
        key_id = self._keys.current.encode()
        nonce = os.urandom(_NONCE_BYTES)
        ciphertext = self._keys.ciphers[self._keys.current].encrypt(nonce, payload.SerializeToString(), key_id)
        return Payload(metadata={"encoding": _ENCODING, "key-id": key_id}, data=nonce + ciphertext)

    def _decrypt(self, payload: Payload) -> Payload:
        if payload.metadata.get("encoding") != _ENCODING:
            return payload
        key_id = payload.metadata.get("key-id", b"")
        name = key_id.decode(errors="replace")
        cipher = self._keys.ciphers.get(name)
        if cipher is None:
            raise PayloadDecryptionFailed(f"This was encrypted under the key {name!r}, which CODEC_KEYS does not hold.")
        try:
            plain = cipher.decrypt(payload.data[:_NONCE_BYTES], payload.data[_NONCE_BYTES:], key_id)
        except (InvalidTag, ValueError) as error:
            raise PayloadDecryptionFailed(f"This is not what was encrypted under the key {name!r}.") from error
        return Payload.FromString(plain)
