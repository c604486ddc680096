"""Proxy headers (``X-Forwarded-*``): client address, scheme and host of a request behind trusted reverse proxies."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

import structlog
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.server.request_head import HOST

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

_IPV4_MAPPED = IPv6Network("::ffff:0:0/96")
_FORWARDED_HEADERS = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host")
_PORT = re.compile(r"(?::[0-9]{1,5})?")

log = structlog.get_logger()


class ProxyHeadersMiddleware:
    """Replaces client address, scheme and host in the scope by the values in the headers of trusted proxies.

    The headers of other peers are ignored. The client address is the last one in ``X-Forwarded-For`` that is not a
    trusted proxy itself, because a client can write any addresses before it. Of ``X-Forwarded-Proto`` and
    ``X-Forwarded-Host`` the last value counts, which the nearest proxy writes.

    Args:
        trusted: the networks of the trusted proxies.
        public_url: the public URL of the gateway; with the scheme https each request counts as one over TLS.
        warns: whether to log once that an untrusted peer sends such headers. If that peer is a proxy which the
            settings do not list, its clients share one address and the limits of that address.
    """

    def __init__(self, app: ASGIApp, trusted: Sequence[Network], public_url: str | None, warns: bool = False) -> None:
        self._app = app
        self._trusted = tuple(_unmapped_network(each) for each in trusted)
        self._is_always_tls = (public_url or "").startswith("https:")
        self._warns = warns

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            headers = Headers(scope=scope)
            peer = parse_address(scope["client"][0]) if scope.get("client") else None
            if peer is not None and self._trusts(peer):
                self._apply(headers, peer, scope)
            elif self._warns and any(name in headers for name in _FORWARDED_HEADERS):
                self._warn(peer)
            if self._is_always_tls:
                _set_secure(scope)
        with suppress(ClientDisconnect):  # a client that disconnects while it sends a body is not an error here
            await self._app(scope, receive, send)

    def _apply(self, headers: Headers, peer: Address, scope: Scope) -> None:
        scope["client"] = (str(self._client(headers, peer)), scope["client"][1])
        if _last_value(headers, "x-forwarded-proto").lower() in ("https", "wss"):
            _set_secure(scope)
        host = _last_value(headers, "x-forwarded-host").encode("latin-1")
        if HOST.fullmatch(host):
            others = (header for header in scope["headers"] if header[0] != b"host")
            scope["headers"] = [(b"host", host), *others]

    def _client(self, headers: Headers, peer: Address) -> Address:
        """Go back from the peer through X-Forwarded-For, and return the first address that is not a trusted proxy."""
        reported = ",".join(headers.getlist("x-forwarded-for")).split(",")
        client = peer
        while reported and self._trusts(client):
            address = parse_address(reported.pop())
            if address is None:
                break
            client = address
        return client

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)

    def _warn(self, peer: Address | None) -> None:
        """Log a warning once, with the peer's address only if that is private: a public one may be personal data."""
        self._warns = False
        log.warning(
            "proxy_headers_ignored",
            reason="X-Forwarded-* came from a peer that TRUSTED_PROXIES does not list. If that peer is your proxy, all "
            "its clients share one address and one client can lock out all others: add its network.",
            peer=str(peer) if peer is not None and peer.is_private else None,
        )


def parse_address(text: str) -> Address | None:
    """Parse an IP address, with or without a port, brackets and quotes; return None if the text is not an address.

    An IPv4-mapped IPv6 address is returned as the IPv4 address.
    """
    host = text.strip()
    if len(host) >= 2 and host[0] == host[-1] == '"':
        host = host[1:-1]
    port = ""
    if host.startswith("["):
        host, bracket, port = host[1:].partition("]")
        if not bracket or ":" not in host:
            return None
    elif host.count(":") == 1:
        host, colon, port = host.partition(":")
        port = colon + port
    if not _PORT.fullmatch(port):
        return None
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def is_secure(connection: HTTPConnection) -> bool:
    """Return whether the client uses TLS, either to this process or to a trusted proxy."""
    return connection.scope["scheme"] in ("https", "wss")


def base_url(connection: HTTPConnection) -> str:
    """Return scheme and host of the request. The client chooses the host: use the URL only in responses to it."""
    return f"{'https' if is_secure(connection) else 'http'}://{connection.url.netloc}"


def _unmapped_network(network: Network) -> Network:
    if isinstance(network, IPv6Network) and network.subnet_of(_IPV4_MAPPED):
        mapped = network.network_address.ipv4_mapped
        assert mapped is not None
        return ip_network((int(mapped), network.prefixlen - _IPV4_MAPPED.prefixlen))
    return network


def _last_value(headers: Headers, name: str) -> str:
    return ",".join(headers.getlist(name)).rpartition(",")[2].strip()


def _set_secure(scope: Scope) -> None:
    scope["scheme"] = "https" if scope["type"] == "http" else "wss"
