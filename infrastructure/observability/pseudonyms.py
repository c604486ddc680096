"""Pseudonyms in logs: keyed digests that replace accounts and client networks, equal in all processes with one key.

A digest lets an operator find all log lines of one account or one client. Without the key it cannot be traced back to
an address or a person, and it grants no access. ``python -m gateway.security.pseudonyms`` computes digests for a
search.
"""

from __future__ import annotations

import hashlib
import hmac

_KEY_PURPOSE = b"pseudonyms in logs"
_DIGEST_BYTES = 8
"""64 bits: short enough to search for, and long enough that accounts and networks of one product do not collide."""


class Pseudonyms:
    """Computes pseudonyms with a key that is derived from ``secret``, the gateway's secret key."""

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
