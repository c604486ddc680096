"""Whom a request comes from and whether by TLS, past the proxies that stand between."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TypeAlias

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

Network: TypeAlias = IPv4Network | IPv6Network

_ONE_HOUSEHOLD = 64
"""Bits of an IPv6 address that name its network: who has one address there has all."""


class Arrivals:
    """Puts into the scope what is true of the client, where proxies stand before the gateway.

    The address, in place of that of a proxy which is ``trusted``, is the last one in ``X-Forwarded-For`` that is no
    trusted proxy itself: what stands before it anybody could have written. Where a client comes straight to us its
    header says nothing. The scheme is a secure one where ``public_url`` or ``X-Forwarded-Proto`` says so, from whoever:
    to believe that falsely only makes cookies stricter.
    """

    def __init__(self, app: ASGIApp, trusted: Sequence[Network], public_url: str | None) -> None:
        self._app = app
        self._trusted = trusted
        self._always_tls = (public_url or "").startswith("https:")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            if self._trusted and scope.get("client"):
                scope["client"] = (self._farthest(scope), scope["client"][1])
            if self._always_tls or Headers(scope=scope).get("x-forwarded-proto") in ("https", "wss"):
                scope["scheme"] = "https" if scope["type"] == "http" else "wss"
        with suppress(ClientDisconnect):  # who leaves in the middle of a body is no trouble of ours
            await self._app(scope, receive, send)

    def _farthest(self, scope: Scope) -> str:
        told = Headers(scope=scope).getlist("x-forwarded-for")
        addresses = [each.strip() for each in ",".join(told).split(",")] if told else []
        known: str = scope["client"][0]
        while addresses and self._trusts(known) and _is_address(addresses[-1]):
            known = addresses.pop()
        return known

    def _trusts(self, address: str) -> bool:
        return _is_address(address) and any(ip_address(address) in network for network in self._trusted)


def neighbourhood(connection: HTTPConnection) -> str:
    """What to count a client by: its IPv4 address, or the network that its IPv6 address is in."""
    return _neighbourhood(connection.client.host if connection.client else "")


@lru_cache(maxsize=10_000)
def _neighbourhood(host: str) -> str:
    if not _is_address(host):
        return host
    address = ip_address(host)
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Network((int(address), _ONE_HOUSEHOLD), strict=False))


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
