"""What only browsers do: speak for whoever sits before them, at the wish of whatever page they show."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.http.error_responses import forbidden_response
from gateway.sessions.session_cache import is_secure
from infrastructure.observability.audit import Refusal, record_refusal

DELIBERATE_HEADERS = ("apollo-require-preflight", "graphql-require-preflight", "x-requested-with")
"""No form and no image sends one of these: a page's script must mean it, and another origin's must be allowed to."""

_HARMLESS_METHODS = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))
_TAKEN_HEADERS = (
    "authorization",
    "content-type",
    "last-event-id",
    "traceparent",
    "tracestate",
    "x-request-id",
    "x-tenant-id",
)
_TOLD_HEADERS = ("retry-after", "x-request-id")
_YEAR = 365 * 24 * 3600
_HEADERS = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "x-frame-options": "DENY",  # for browsers that know no frame-ancestors
}
_IN_CLEAR = tuple((name.encode(), value.encode()) for name, value in _HEADERS.items())
_OVER_TLS = (*_IN_CLEAR, (b"strict-transport-security", f"max-age={_YEAR}".encode()))
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


class SecurityHeadersMiddleware:
    """Adds to each answer what keeps a browser from misusing it, where the answer does not say so itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        by_tls = is_secure(HTTPConnection(scope))

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                named = {name for name, _ in message["headers"]}
                more = _OVER_TLS if by_tls else _IN_CLEAR
                message["headers"] = [*message["headers"], *(each for each in more if each[0] not in named)]
            await send(message)

        await self._app(scope, receive, send_safely)


class OriginCheckMiddleware:
    """Refuses with 403 what a page of an origin that is not ``allowed`` has its browser send, and answers CORS for
    those that are. Paths that begin with ``apart`` see to that themselves.

    Refused is any websocket, any request that could change something, and any at all for the path ``reads``. One
    without an Origin comes from no page of another site: browsers send one with what could change something, and name
    the site of the rest. And where a cookie comes along, a body that a plain form could send is taken for one: only
    JSON or a deliberate header makes a browser ask before it sends.
    """

    def __init__(self, app: ASGIApp, allowed: Collection[str], reads: str, apart: str) -> None:
        self._app = app
        self._allowed = frozenset(allowed)
        self._reads = reads
        self._apart = apart
        self._answering = CORSMiddleware(
            self._guarded,
            allow_origins=self._allowed,
            allow_methods=("GET", "POST", "PUT"),
            allow_headers=(*_TAKEN_HEADERS, *DELIBERATE_HEADERS),
            allow_credentials=True,
            expose_headers=_TOLD_HEADERS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope["path"].startswith(self._apart):
            await self._app(scope, receive, send)
        else:
            await self._answering(scope, receive, send)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers, method = Headers(scope=scope), scope.get("method", "")
        is_guarded = method not in _HARMLESS_METHODS or scope["path"] == self._reads
        if is_guarded and self._is_strange(headers, is_secure(HTTPConnection(scope))):
            record_refusal(Refusal.ORIGIN)
            await forbidden_response("Pages of this origin may not do that.", scope)(scope, receive, send)
        elif method == "POST" and "cookie" in headers and _could_be_a_form(headers):
            record_refusal(Refusal.BODY)
            await forbidden_response("Send JSON, with its Content-Type.", scope)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _is_strange(self, headers: Headers, by_tls: bool) -> bool:
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin is None:
            return site in ("cross-site", "same-site")
        return not (site == "same-origin" or origin in self._allowed or _is_of(origin, headers.get("host", ""), by_tls))


def origin_of(text: str) -> str:
    """As browsers write it. Raises ValueError where it is more, or less, than a scheme and a host."""
    parts = urlsplit(text.strip())
    port = parts.port
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ValueError(f"{text!r} is no origin: write one as https://app.example.com")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    written_port = "" if port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{port}"
    return f"{parts.scheme}://{host}{written_port}"


def _is_of(origin: str, host: str, by_tls: bool) -> bool:
    """Whether the page came from the host that the request goes to, and not in clear to one that came by TLS."""
    try:
        page, here = urlsplit(origin), urlsplit(f"//{host}")
        usual = _DEFAULT_PORTS.get(page.scheme)
        if by_tls and page.scheme != "https":
            return False
        return page.hostname == here.hostname is not None and (page.port or usual) == (here.port or usual)
    except ValueError:
        return False


def _could_be_a_form(headers: Headers) -> bool:
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    is_json = kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))
    return not is_json and not any(name in headers for name in ("authorization", *DELIBERATE_HEADERS))
