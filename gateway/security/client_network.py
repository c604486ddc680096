"""The client network of a connection: the unit of address-based limits (IPv4 address or IPv6 /64 network)."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network

from starlette.requests import HTTPConnection

from gateway.security.proxy_headers import parse_address

_IPV6_PREFIX_LENGTH = 64
"""Bits of an IPv6 address that name its network. One customer of a provider has all addresses of such a network."""


def client_network(connection: HTTPConnection) -> str:
    """Return the client network of a connection: see ``network_of``."""
    return network_of(connection.client.host if connection.client else "")


@lru_cache(maxsize=10_000)
def network_of(host: str) -> str:
    """Return the network of a client's address: an IPv4 address itself, or the /64 network of an IPv6 address.

    A text that is not an address is returned unchanged.
    """
    address = parse_address(host)
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address), _IPV6_PREFIX_LENGTH), strict=False))
    return host if address is None else str(address)
