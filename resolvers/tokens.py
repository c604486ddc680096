"""The token of the session that an operation makes: derived, so that none is stored and a lost answer loses none."""

from __future__ import annotations

import base64
import hashlib
import hmac


def session_token(secret: bytes, operation_id: str) -> str:
    """256 bits as URL-safe text (43 characters): HMAC-SHA256 (RFC 2104) of the operation's id under the edge's key."""
    digest = hmac.new(secret, b"session-token\0" + operation_id.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def token_hash(token: str) -> str:
    """Lower-case hex SHA-256: the only form in which a token is stored or sent on."""
    return hashlib.sha256(token.encode()).hexdigest()
