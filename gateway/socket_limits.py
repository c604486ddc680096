"""How much one websocket, one user and one network address may ask of this process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from contracts.errors import RateLimited

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


class Places:
    """So many for each; those of one leave the others theirs."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: Counter[str] = Counter()

    @contextmanager
    def taken(self, who: str) -> Iterator[None]:
        """Have one of them while the block runs. Raises RateLimited where none is left."""
        if self._taken[who] >= self._most:
            raise RateLimited("Too many open at once; close some first.", retry_after=10.0)
        self._taken[who] += 1
        try:
            yield
        finally:
            self._taken[who] -= 1
            if not self._taken[who]:
                del self._taken[who]


class Allowance:
    """So many a minute: all at once, or one after the other as time gives them back."""

    def __init__(self, a_minute: int) -> None:
        self._a_second = a_minute / 60
        self._most = self._left = float(a_minute)
        self._seen_at: float | None = None

    def spend(self, now: float) -> bool:
        """Use one up at this time of the event loop. False where none is left."""
        if self._seen_at is not None:
            self._left = min(self._most, self._left + (now - self._seen_at) * self._a_second)
        self._seen_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def regain(self) -> None:
        """Get one back."""
        self._left = min(self._most, self._left + 1)
