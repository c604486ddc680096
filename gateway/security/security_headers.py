"""Security headers that restrict what a browser does with a response (CSP, HSTS, nosniff and others)."""

from __future__ import annotations

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.security.proxy_headers import is_secure

_HSTS_MAX_AGE_SECONDS = 365 * 24 * 3600
_HEADERS = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "x-frame-options": "DENY",  # for browsers without support for frame-ancestors
}
_HTTP_HEADERS = tuple((name.encode(), value.encode()) for name, value in _HEADERS.items())
_HTTPS_HEADERS = (*_HTTP_HEADERS, (b"strict-transport-security", f"max-age={_HSTS_MAX_AGE_SECONDS}".encode()))


class SecurityHeadersMiddleware:
    """Adds security headers to each HTTP response. A header that the response sets itself is not changed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = _HTTPS_HEADERS if is_secure(HTTPConnection(scope)) else _HTTP_HEADERS

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(each for each in headers if each[0] not in present)]
            await send(message)

        await self._app(scope, receive, send_with_headers)
