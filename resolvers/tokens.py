"""Secrets and ids that are derived from an operation's id with the gateway's key, and hashes of tokens.

Because a repeated request derives the same values, the gateway need not store them, and a client whose connection broke
receives them again.
"""

from __future__ import annotations

import base64
import hashlib
import hmac


def session_token(secret: bytes, operation_id: str) -> str:
    """Return the token of the session that the operation creates.

    The token is HMAC-SHA256 (RFC 2104) as unpadded URL-safe base 64: 256 bits, 43 characters.
    """
    return base64.urlsafe_b64encode(_derive(secret, "session-token", operation_id)).decode().rstrip("=")


def new_user_id(secret: bytes, operation_id: str) -> str:
    """Return the id of the user whom the operation creates."""
    return f"usr_{_derive(secret, 'new-user', operation_id).hex()[:32]}"


def totp_secret(secret: bytes, operation_id: str) -> str:
    """Return the TOTP secret of the user whom the operation creates: 160 bits (RFC 4226) in base 32, 32 characters."""
    return base64.b32encode(_derive(secret, "totp-secret", operation_id)[:20]).decode()


def password_digest(secret: bytes, operation_id: str, password: str) -> str:
    """Return a keyed digest that shows whether a repeated request of the operation has the same password."""
    return _derive(secret, "password", f"{operation_id}\0{password}").hex()


def credentials_digest(secret: bytes, key: str, email: str, password: str) -> str:
    """Return a keyed digest of idempotency key, e-mail address and password that identifies equal login requests."""
    return _derive(secret, "credentials", "\0".join((key, email, password))).hex()


def token_hash(token: str) -> str:
    """Return the SHA-256 hash of a token in lower-case hex: the only form in which tokens are stored or sent on."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def is_same_token(expected: str, presented: str) -> bool:
    """Compare two tokens in constant time; ``presented`` may contain any characters."""
    return hmac.compare_digest(expected.encode(), presented.encode(errors="surrogatepass"))


def _derive(secret: bytes, purpose: str, message: str) -> bytes:
    return hmac.new(secret, f"{purpose}\0{message}".encode(), hashlib.sha256).digest()
