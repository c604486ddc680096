"""Read the session token and the expected tenant from a request or from a websocket's ``connection_init``."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import HTTPConnection

from gateway.security.proxy_headers import is_secure
from gateway.sessions.cookies import COOKIE, SECURE_COOKIE
from gateway.sessions.session_cache import MAX_TOKEN_LENGTH


def token_from_request(connection: HTTPConnection) -> str | None:
    """Return the session token: the one in the Authorization header, else the one in the session cookie.

    Over TLS only the ``__Host-`` cookie is read, because other hosts can set the plain one.
    """
    cookie = connection.cookies.get(SECURE_COOKIE if is_secure(connection) else COOKIE)
    return _bearer(connection.headers.get("authorization")) or cookie or None


def token_from_connection_init(payload: Mapping[str, object] | None) -> str | None:
    """Return the session token in the ``authorization`` entry of a payload, with or without the prefix ``Bearer``."""
    for name, value in (payload or {}).items():
        if name.lower() == "authorization" and isinstance(value, str):
            return _bearer(value) or value.strip() or None
    return None


def is_valid_connection_init(payload: Mapping[str, object] | None) -> bool:
    """Return whether the entries ``authorization`` and ``tenantId`` of the payload have a valid type and length."""
    tenant = (payload or {}).get("tenantId")
    if not (tenant is None or (isinstance(tenant, str) and len(tenant) <= MAX_TOKEN_LENGTH)):
        return False
    tokens = [value for name, value in (payload or {}).items() if name.lower() == "authorization"]
    return all(value is None or (isinstance(value, str) and len(value) <= MAX_TOKEN_LENGTH) for value in tokens)


def tenant_from_request(connection: HTTPConnection) -> str | None:
    """Return the id of the tenant that the client displays, from the header X-Tenant-Id; None without the header.

    Several headers with different values are joined by commas, which is the id of no tenant.
    """
    values = [value.strip() for value in connection.headers.getlist("x-tenant-id")]
    if not values:
        return None
    return values[0] if len(set(values)) == 1 else ", ".join(values)


def _bearer(header: str | None) -> str | None:
    scheme, _, token = (header or "").strip().partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
