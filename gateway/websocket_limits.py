"""How much one websocket, one user and one network address may ask for."""

from __future__ import annotations

from dataclasses import dataclass

from infrastructure.quota import QuotaKey

TOO_MANY = 4429
"""Clients that get this do not come back by themselves."""


@dataclass(frozen=True)
class SocketLimits:
    """``init_seconds`` until a socket must have introduced itself; ``messages`` a minute and ``operations`` at a time
    of one socket; open sockets and event streams ``by_user`` and ``by_address``.
    """

    init_seconds: float = 10.0
    messages: int = 100
    operations: int = 50
    by_user: int = 100
    by_address: int = 1_000

    def of_user(self, user_id: str) -> QuotaKey:
        """Return the quota key of a user's open sockets."""
        return QuotaKey("user", user_id, self.by_user)

    def of_address(self, client_network: str) -> QuotaKey:
        """Return the quota key of the open sockets and event streams from one client network."""
        return QuotaKey("address", client_network, self.by_address)
