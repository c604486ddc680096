"""What is derived from an operation's id under the edge's key: so that none is stored and a lost answer loses none."""

from __future__ import annotations

import base64
import hashlib
import hmac


def session_token(secret: bytes, operation_id: str) -> str:
    """Of the session that the operation makes: 256 bits (HMAC-SHA256, RFC 2104) as URL-safe text, 43 characters."""
    return base64.urlsafe_b64encode(_derived(secret, "session-token", operation_id)).decode().rstrip("=")


def new_user_id(secret: bytes, operation_id: str) -> str:
    """Of the user whom the operation makes."""
    return f"usr_{_derived(secret, 'new-user', operation_id).hex()[:32]}"


def totp_secret(secret: bytes, operation_id: str) -> str:
    """Of the user whom the operation makes: 160 bits (RFC 4226, 4) in base 32, 32 characters."""
    return base64.b32encode(_derived(secret, "totp-secret", operation_id)[:20]).decode()


def password_digest(secret: bytes, operation_id: str, password: str) -> str:
    """To see whether it is the password that the operation was started with; of no use without the edge's key."""
    return _derived(secret, "password", f"{operation_id}\0{password}").hex()


def credentials_digest(secret: bytes, key: str, email: str, password: str) -> str:
    """To tell one login from another while it is looked at."""
    return _derived(secret, "credentials", "\0".join((key, email, password))).hex()


def token_hash(token: str) -> str:
    """Lower-case hex SHA-256: the only form in which a token is stored or sent on."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def is_same_token(expected: str, given: str) -> bool:
    """Compare in constant time, whatever characters were given."""
    return hmac.compare_digest(expected.encode(), given.encode(errors="surrogatepass"))


def _derived(secret: bytes, purpose: str, message: str) -> bytes:
    return hmac.new(secret, f"{purpose}\0{message}".encode(), hashlib.sha256).digest()
