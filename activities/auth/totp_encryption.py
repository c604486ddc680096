"""Second factors' secrets as they are stored: encrypted (AES-256-GCM), each for its owner alone."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Mapping
from typing import Protocol

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from tortoise.exceptions import BaseORMException

from activities.auth import models

_SEALED = "sealed"
_NONCE_BYTES = 12
_LOOK_SECONDS = 3600.0
_MOST_AT_ONCE = 500

log = structlog.get_logger(__name__)


class DecryptionFailed(Exception):
    """A secret cannot be read: its key is gone, or it is not what was stored for this owner."""


class Keys(Protocol):
    """The ciphers by key id; the current one encrypts, all decrypt. ``KeyRing`` of the payload codec implements it."""

    @property
    def current(self) -> str: ...

    @property
    def ciphers(self) -> Mapping[str, AESGCM]: ...


class SecretCipher:
    """Writes ``sealed:<key id>:<base64 of nonce and cipher text>``; reads that, and what was once stored in clear.

    Without keys it leaves things in clear.
    """

    def __init__(self, keys: Keys | None) -> None:
        self._keys = keys

    def close(self, secret: str, *, owner: str) -> str:
        if self._keys is None:
            return secret
        key_id, nonce = self._keys.current, os.urandom(_NONCE_BYTES)
        sealed = self._keys.ciphers[key_id].encrypt(nonce, secret.encode(), _bound_to(key_id, owner))
        return f"{_SEALED}:{key_id}:{base64.b64encode(nonce + sealed).decode()}"

    def open(self, stored: str, *, owner: str) -> str:
        """Raises SealBroken."""
        kind, _, rest = stored.partition(":")
        if kind != _SEALED:
            return stored
        key_id, _, text = rest.rpartition(":")
        cipher = self._keys.ciphers.get(key_id) if self._keys is not None else None
        if cipher is None:
            raise DecryptionFailed(f"This was sealed under the key {key_id!r}, which CODEC_KEYS does not hold.")
        sealed = base64.b64decode(text)
        try:
            return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _bound_to(key_id, owner)).decode()
        except InvalidTag as error:
            raise DecryptionFailed("This is not what was sealed for this owner.") from error

    def is_current(self, stored: str) -> bool:
        """Whether it would be written so today."""
        return self._keys is None or stored.startswith(f"{_SEALED}:{self._keys.current}:")


UNSEALED = SecretCipher(None)


class SecretReencryption:
    """Seals what was stored in clear, or under a key that another has followed."""

    def __init__(self, seal: SecretCipher) -> None:
        self._seal = seal

    async def seal_regularly(self) -> None:
        while True:
            try:
                await self.seal_all()
            except (BaseORMException, OSError, DecryptionFailed) as error:
                log.warning("secrets_not_sealed", error=repr(error))
            await asyncio.sleep(_LOOK_SECONDS)

    async def seal_all(self) -> int:
        """How many were sealed. Raises SealBroken where one is under a key that is gone."""
        done, after = 0, ""
        while True:
            having = models.Credential.filter(totp_secret__isnull=False, user_id__gt=after)
            rows = await having.order_by("user_id").limit(_MOST_AT_ONCE)
            for row in rows:
                done += await self._seal_one(row)
            if len(rows) < _MOST_AT_ONCE:
                return done
            after = rows[-1].user_id

    async def _seal_one(self, row: models.Credential) -> int:
        stored = row.totp_secret
        if stored is None or self._seal.is_current(stored):
            return 0
        sealed = self._seal.close(self._seal.open(stored, owner=row.user_id), owner=row.user_id)
        # Only where it is still what was read: others may seal it at the same time.
        return await models.Credential.filter(user_id=row.user_id, totp_secret=stored).update(totp_secret=sealed)


def _bound_to(key_id: str, owner: str) -> bytes:
    return f"totp\0{key_id}\0{owner}".encode()
