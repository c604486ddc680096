"""Encryption of the stored TOTP secrets with AES-256-GCM; each ciphertext is bound to the user who owns the secret."""

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

_PREFIX = "sealed"
_NONCE_BYTES = 12
_CHECK_INTERVAL_SECONDS = 3600.0
_BATCH_SIZE = 500

log = structlog.get_logger(__name__)


class DecryptionFailed(Exception):
    """A secret cannot be decrypted: its key is missing, or the ciphertext belongs to another owner."""


class Keys(Protocol):
    """Ciphers by key id: the current one encrypts, all decrypt. ``KeyRing`` of the payload codec implements it."""

    @property
    def current(self) -> str: ...

    @property
    def ciphers(self) -> Mapping[str, AESGCM]: ...


class SecretCipher:
    """Encrypts secrets to ``sealed:<key id>:<base64 of nonce and ciphertext>``, and decrypts them.

    Secrets that are stored in plain text can still be read. Without keys, secrets are stored in plain text.
    """

    def __init__(self, keys: Keys | None) -> None:
        self._keys = keys

    def encrypt(self, secret: str, *, owner: str) -> str:
        """Return the text to store for the secret of this owner, a user id."""
        if self._keys is None:
            return secret
        key_id, nonce = self._keys.current, os.urandom(_NONCE_BYTES)
        sealed = self._keys.ciphers[key_id].encrypt(nonce, secret.encode(), _associated_data(key_id, owner))
        return f"{_PREFIX}:{key_id}:{base64.b64encode(nonce + sealed).decode()}"

    def decrypt(self, stored: str, *, owner: str) -> str:
        """Return the secret of this owner from the stored text.

        Raises:
            DecryptionFailed: the key is missing, or the text was encrypted for another owner.
        """
        kind, _, rest = stored.partition(":")
        if kind != _PREFIX:
            return stored
        key_id, _, text = rest.rpartition(":")
        cipher = self._keys.ciphers.get(key_id) if self._keys is not None else None
        if cipher is None:
            raise DecryptionFailed(
                f"The secret was encrypted with the key {key_id!r}, which CODEC_KEYS does not contain."
            )
        sealed = base64.b64decode(text)
        try:
            return cipher.decrypt(
                sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _associated_data(key_id, owner)
            ).decode()
        except InvalidTag as error:
            raise DecryptionFailed("The secret was not encrypted for this owner.") from error

    def is_current(self, stored: str) -> bool:
        """Return whether the text is encrypted with the current key, or no encryption is configured."""
        return self._keys is None or stored.startswith(f"{_PREFIX}:{self._keys.current}:")


PLAINTEXT = SecretCipher(None)


class SecretReencryption:
    """Encrypts stored secrets with the current key if they are in plain text or encrypted with an older key."""

    def __init__(self, cipher: SecretCipher) -> None:
        self._cipher = cipher

    async def run(self) -> None:
        """Encrypt all secrets at an interval, until cancelled; failures are logged."""
        while True:
            try:
                await self.reencrypt_all()
            except (BaseORMException, OSError, DecryptionFailed) as error:
                log.warning("secrets_not_encrypted", error=repr(error))
            await asyncio.sleep(_CHECK_INTERVAL_SECONDS)

    async def reencrypt_all(self) -> int:
        """Encrypt all outdated secrets and return their number.

        Raises:
            DecryptionFailed: the key of a secret is missing.
        """
        count, after = 0, ""
        while True:
            with_secret = models.Credential.filter(totp_secret__isnull=False, user_id__gt=after)
            rows = await with_secret.order_by("user_id").limit(_BATCH_SIZE)
            for row in rows:
                count += await self._reencrypt(row)
            if len(rows) < _BATCH_SIZE:
                return count
            after = rows[-1].user_id

    async def _reencrypt(self, row: models.Credential) -> int:
        stored = row.totp_secret
        if stored is None or self._cipher.is_current(stored):
            return 0
        encrypted = self._cipher.encrypt(self._cipher.decrypt(stored, owner=row.user_id), owner=row.user_id)
        # Only if the text is unchanged: another process may encrypt the secret at the same time.
        return await models.Credential.filter(user_id=row.user_id, totp_secret=stored).update(totp_secret=encrypted)


def _associated_data(key_id: str, owner: str) -> bytes:
    return f"totp\0{key_id}\0{owner}".encode()
