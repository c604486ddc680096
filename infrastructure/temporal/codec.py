"""Encryption of what Temporal stores: AES-256-GCM under a key named in each payload, so that keys can rotate."""

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


class Undecryptable(Exception):
    """A payload that cannot be read here: its key is gone, or it is not what was encrypted. The message says which."""


class KeyRing:
    """Keys by id; the first encrypts, all decrypt. Written ``id:base64[,id:base64...]``, 32 bytes each."""

    def __init__(self, keys: dict[str, bytes]) -> None:
        if not keys:
            raise ValueError("A key ring needs at least one key.")
        if any(len(key) != 32 for key in keys.values()):
            raise ValueError("Each encryption key is 32 bytes.")
        self.current = next(iter(keys))
        self.ciphers = {name: AESGCM(key) for name, key in keys.items()}

    @classmethod
    def parse(cls, text: str) -> KeyRing:
        """From its written form; ValueError where it is none."""
        pairs = [part.strip().partition(":") for part in text.split(",") if part.strip()]
        keys = {name: base64.b64decode(key, validate=True) for name, _, key in pairs}
        if len(keys) < len(pairs) or "" in keys:
            raise ValueError("Each encryption key has an id of its own.")
        return cls(keys)


class EncryptionCodec(PayloadCodec):
    """Encrypts each payload whole, its metadata included; passes on what was not encrypted by it."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [self._encrypt(payload) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [self._decrypt(payload) for payload in payloads]

    def _encrypt(self, payload: Payload) -> Payload:
        key_id = self._keys.current.encode()
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._keys.ciphers[self._keys.current].encrypt(nonce, payload.SerializeToString(), key_id)
        return Payload(metadata={"encoding": _ENCODING, "key-id": key_id}, data=nonce + sealed)

    def _decrypt(self, payload: Payload) -> Payload:
        if payload.metadata.get("encoding") != _ENCODING:
            return payload
        key_id = payload.metadata.get("key-id", b"")
        name = key_id.decode(errors="replace")
        cipher = self._keys.ciphers.get(name)
        if cipher is None:
            raise Undecryptable(f"This was encrypted under the key {name!r}, which CODEC_KEYS does not hold.")
        try:
            plain = cipher.decrypt(payload.data[:_NONCE_BYTES], payload.data[_NONCE_BYTES:], key_id)
        except (InvalidTag, ValueError) as error:
            raise Undecryptable(f"This is not what was encrypted under the key {name!r}.") from error
        return Payload.FromString(plain)
