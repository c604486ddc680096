"""The client network: whose requests and connections share a limit."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network

from starlette.requests import HTTPConnection

from gateway.security.proxy_headers import parse_address

_ONE_HOUSEHOLD = 64
"""Bits of an IPv6 address that name its network: who has one address there has all."""


def client_network(connection: HTTPConnection) -> str:
    """Return the client network: the IPv4 address, or the network of 64 bits that the IPv6 address is in."""
    return network_of(connection.client.host if connection.client else "")


@lru_cache(maxsize=10_000)
def network_of(host: str) -> str:
    """Return the client network of an address."""
    address = parse_address(host)
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address), _ONE_HOUSEHOLD), strict=False))
    return host if address is None else str(address)
