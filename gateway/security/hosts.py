"""Protection against DNS rebinding: without PUBLIC_URL the gateway accepts requests to loopback host names only."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.http.error_responses import forbidden_response
from gateway.security.proxy_headers import parse_address

MISDIRECTED_REQUEST = 421
_MESSAGE = "This gateway answers to loopback names only; PUBLIC_URL makes it answer to others."


class LoopbackHostMiddleware:
    """Refuses requests and handshakes whose ``Host`` is not a loopback name (421, RFC 9110, 15.5.20).

    By DNS rebinding any site can make its own name resolve to 127.0.0.1. The browser then treats requests of its pages
    to this gateway as same-origin requests, and only the header ``Host`` contains the name of that site. A request
    without ``Host`` does not come from a browser and is accepted.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            hosts = Headers(scope=scope).getlist("host")
            if not all(is_loopback_host(host) for host in hosts):
                await forbidden_response(_MESSAGE, scope, MISDIRECTED_REQUEST)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def is_loopback_host(host: str) -> bool:
    """Return whether the value of a ``Host`` header is localhost, a subdomain of it, or a loopback address."""
    address = parse_address(host)
    if address is not None:
        return address.is_loopback
    name = host.partition(":")[0].lower().removesuffix(".")
    return name == "localhost" or name.endswith(".localhost")
