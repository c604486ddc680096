"""The limits of one websocket, one user and one client network."""

from __future__ import annotations

from dataclasses import dataclass

from infrastructure.limits.quota import QuotaKey

CLOSE_RATE_LIMITED = 4429
"""Close code after which clients do not reconnect by themselves."""


@dataclass(frozen=True)
class SocketLimits:
    """``init_seconds`` until ``connection_init`` has to arrive; ``messages`` a minute and ``operations`` at a time
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
