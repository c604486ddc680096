"""Keyed digests that stand for accounts and client networks in logs: the same in every process with the same key.

A digest lets an operator find all lines of one account or one client. Without the key it does not lead back to an
address or a person, and it grants nothing. ``python -m gateway.security.pseudonyms`` computes digests for a search.
"""

from __future__ import annotations

import hashlib
import hmac

_KEY_PURPOSE = b"pseudonyms in logs"
_DIGEST_BYTES = 8
"""As short as a search term may be: 64 bits do not collide among the accounts and networks of one product."""


class Pseudonyms:
    """``secret`` is the gateway's key, from which the digests' own key is derived."""

    def __init__(self, secret: bytes) -> None:
        self._key = hmac.new(secret, _KEY_PURPOSE, hashlib.sha256).digest()

    def client(self, network: str) -> str:
        """Return the digest of a client network: an IPv4 address, or an IPv6 network of 64 bits."""
        return self._digest(b"client", network)

    def account(self, name: str) -> str:
        """Return the digest of an account: a user id, or the normalized e-mail address of a sign-in."""
        return self._digest(b"account", name)

    def _digest(self, kind: bytes, name: str) -> str:
        return hashlib.blake2s(
            name.encode(errors="surrogatepass"), key=self._key, person=kind, digest_size=_DIGEST_BYTES
        ).hexdigest()
