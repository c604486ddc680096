"""How much one websocket, one user and one network address may ask for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from contracts.errors import RateLimited
from gateway.shared_places import SharedPlaces

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
    """So many for each; those of one leave the others theirs. ``shared``: counted together with other processes."""

    shared: SharedPlaces | None = None

    def __init__(self, kind: str, most: int) -> None:
        self._kind = kind
        self._most = most
        self._taken: Counter[str] = Counter()

    async def take(self, who: str) -> AbstractContextManager[None]:
        """One of them, which is free again where the block ends. Raises RateLimited where none is left."""
        if self._taken[who] >= self._most:
            raise _none_left()
        self._taken[who] += 1
        try:
            if self.shared is not None and not await self.shared.take(self._kind, who, self._most):
                raise _none_left()
        except BaseException:
            self._leave(who)
            raise
        return self._taking(who)

    @contextmanager
    def _taking(self, who: str) -> Iterator[None]:
        try:
            yield
        finally:
            self._leave(who)
            if self.shared is not None:
                self.shared.give_back(self._kind, who, self._most)

    def _leave(self, who: str) -> None:
        self._taken[who] -= 1
        if not self._taken[who]:
            del self._taken[who]


def _none_left() -> RateLimited:
    return RateLimited("Too many open at once; close some first.", retry_after=10.0)


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
