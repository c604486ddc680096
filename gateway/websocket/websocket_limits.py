"""Limits of websockets: messages and operations per socket, open sockets per user and per client network."""

from __future__ import annotations

from dataclasses import dataclass

from infrastructure.limits.quota import QuotaKey

CLOSE_RATE_LIMITED = 4429
"""The close code for exceeded limits. Clients do not reconnect automatically after it."""


@dataclass(frozen=True)
class SocketLimits:
    """Limits of websockets.

    Attributes:
        init_timeout_seconds: time within which the message ``connection_init`` must arrive.
        messages_per_minute: messages that a client may send on one socket.
        max_operations: simultaneous operations on one socket.
        max_per_user: open sockets of one user.
        max_per_address: open sockets and event streams of one client network.
    """

    init_timeout_seconds: float = 10.0
    messages_per_minute: int = 100
    max_operations: int = 50
    max_per_user: int = 100
    max_per_address: int = 1_000

    def user_key(self, user_id: str) -> QuotaKey:
        """Return the quota key of a user's open sockets."""
        return QuotaKey("user", user_id, self.max_per_user)

    def address_key(self, client_network: str) -> QuotaKey:
        """Return the quota key of the open sockets and event streams from one client network."""
        return QuotaKey("address", client_network, self.max_per_address)
