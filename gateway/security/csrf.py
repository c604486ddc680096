"""Protection against cross-site request forgery (CSRF) by a check of the Origin header, and CORS responses."""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.http.error_responses import forbidden_response
from gateway.security.origins import is_same_origin
from gateway.security.proxy_headers import is_secure
from infrastructure.observability.audit import Refusal, record_refusal

PREFLIGHT_HEADERS = ("apollo-require-preflight", "graphql-require-preflight", "x-requested-with")
"""Headers that make a browser send a CORS preflight request first. Forms and images cannot set them."""

_SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))
"""The methods that RFC 9110, 9.2.1 calls safe: they change nothing."""
_ALLOWED_HEADERS = (
    "authorization",
    "content-type",
    "last-event-id",
    "traceparent",
    "tracestate",
    "x-request-id",
    "x-tenant-id",
)
_EXPOSED_HEADERS = ("retry-after", "x-request-id")


class OriginCheckMiddleware:
    """Refuses requests of pages from other origins (403), and answers CORS requests of the ``allowed`` origins.

    The check concerns websocket handshakes, requests with a method that is not safe, and all requests for
    ``protected_path``. A request without the header ``Origin`` passes unless ``Sec-Fetch-Site`` names another site:
    browsers send ``Origin`` with each request that could change something.

    A POST request with a cookie also needs a JSON body or one of ``PREFLIGHT_HEADERS``, because a browser sends other
    bodies, which a plain form can produce, without a preflight request.

    Args:
        allowed: the origins whose pages may use the gateway with the viewer's cookie.
        protected_path: the path for which requests with a safe method are checked, too.
        exempt_prefix: paths with this prefix are not checked here; their routes have a check of their own.
    """

    def __init__(self, app: ASGIApp, allowed: Collection[str], protected_path: str, exempt_prefix: str) -> None:
        self._app = app
        self._allowed = frozenset(allowed)
        self._protected_path = protected_path
        self._exempt_prefix = exempt_prefix
        self._cors = CORSMiddleware(
            self._check,
            allow_origins=self._allowed,
            allow_methods=("GET", "POST", "PUT"),
            allow_headers=(*_ALLOWED_HEADERS, *PREFLIGHT_HEADERS),
            allow_credentials=True,
            expose_headers=_EXPOSED_HEADERS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope["path"].startswith(self._exempt_prefix):
            await self._app(scope, receive, send)
        else:
            await self._cors(scope, receive, send)

    async def _check(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers, method = Headers(scope=scope), scope.get("method", "")
        is_protected = method not in _SAFE_METHODS or scope["path"] == self._protected_path
        if is_protected and self._is_cross_origin(headers, is_secure(HTTPConnection(scope))):
            record_refusal(Refusal.ORIGIN)
            await forbidden_response("Pages of this origin may not do that.", scope)(scope, receive, send)
        elif method == "POST" and "cookie" in headers and _may_be_form(headers):
            record_refusal(Refusal.BODY)
            await forbidden_response("Send JSON, with its Content-Type.", scope)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _is_cross_origin(self, headers: Headers, by_tls: bool) -> bool:
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin is None:
            return site in ("cross-site", "same-site")
        is_same = site == "same-origin" or is_same_origin(origin, headers.get("host", ""), by_tls)
        return not (is_same or origin in self._allowed)


def _may_be_form(headers: Headers) -> bool:
    """Return whether a plain HTML form can send such a request."""
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    is_json = media_type == "application/json" or (
        media_type.startswith("application/") and media_type.endswith("+json")
    )
    return not is_json and not any(name in headers for name in ("authorization", *PREFLIGHT_HEADERS))
