"""A semaphore whose slots are shared fairly between clients, for expensive work.

No client, and no account whatever its clients, holds more slots than its share; all slots can be held by several
clients together. Waiting requests are granted a slot round robin: first between clients, then between the accounts of
one client. If the queue is full, the newest request of the client with the most waiting requests is refused.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple, TypeAlias

from contracts.errors import RateLimited

_RETRY_SECONDS = 1.0

_Waiters: TypeAlias = "OrderedDict[str, deque[asyncio.Future[None]]]"
"""Requests that wait, by the account that they are for, the account to be served next first."""


class Requester(NamedTuple):
    """Whose use is counted: ``client`` is where the requests come from (a network, a process), ``account`` is for whom
    they are made (a user, an e-mail address, one request's id).
    """

    client: str
    account: str


class FairSemaphore:
    """``slots`` in all, at most ``share`` of them for one client and ``account_share`` (by default ``share``) for one
    account, and a queue of at most ``max_waiting`` requests.
    """

    def __init__(self, slots: int, *, share: int, max_waiting: int, account_share: int | None = None) -> None:
        self._free = slots
        self._share = share
        self._account_share = share if account_share is None else account_share
        self._max_waiting = max_waiting
        self._waiting = 0
        self._clients: OrderedDict[str, _Waiters] = OrderedDict()
        self._held_by_client: Counter[str] = Counter()
        self._held_by_account: Counter[str] = Counter()

    @property
    def waiting(self) -> int:
        """How many requests wait for a slot."""
        return self._waiting

    @asynccontextmanager
    async def slot(self, requester: Requester) -> AsyncIterator[None]:
        """Hold a slot while the block runs.

        Raises:
            RateLimited: too many requests wait, most of them of this requester.
        """
        await self.acquire(requester)
        try:
            yield
        finally:
            self.release(requester)

    async def acquire(self, requester: Requester) -> None:
        """Take a slot, which ``release`` returns. Raises RateLimited."""
        if self._may_have_one(requester):  # then no waiting request could be served
            self._take(requester)
            return
        if self._waiting >= self._max_waiting:
            self._make_room(requester)
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        accounts = self._clients.setdefault(requester.client, OrderedDict())
        accounts.setdefault(requester.account, deque()).append(granted)
        self._waiting += 1
        try:
            await granted
        except asyncio.CancelledError:
            if granted.cancelled():
                self._forget(requester, granted)
            elif granted.exception() is None:  # it was granted at the moment at which its requester left
                self.release(requester)
            raise

    def release(self, requester: Requester) -> None:
        """Return a slot and grant it to the next request."""
        self._free += 1
        for held, name in ((self._held_by_client, requester.client), (self._held_by_account, requester.account)):
            held[name] -= 1
            if not held[name]:
                del held[name]
        while self._free and self._grant_next():
            pass

    def _may_have_one(self, requester: Requester) -> bool:
        return (
            self._free > 0
            and self._held_by_client[requester.client] < self._share
            and self._held_by_account[requester.account] < self._account_share
        )

    def _take(self, requester: Requester) -> None:
        self._free -= 1
        self._held_by_client[requester.client] += 1
        self._held_by_account[requester.account] += 1

    def _grant_next(self) -> bool:
        """Grant a slot to the first request that is within its shares. It skips at most as many as hold slots."""
        for client, accounts in self._clients.items():
            if self._held_by_client[client] >= self._share:
                continue
            for account, waiters in accounts.items():
                requester = Requester(client, account)
                if not self._may_have_one(requester):
                    continue
                granted = waiters[0]
                self._forget(requester, granted)
                if account in accounts:
                    accounts.move_to_end(account)
                if client in self._clients:
                    self._clients.move_to_end(client)
                if not granted.done():  # its requester may be leaving
                    self._take(requester)
                    granted.set_result(None)
                return True
        return False

    def _make_room(self, requester: Requester) -> None:
        """Refuse the newest request of the client with most requests. Raises RateLimited if that is this one."""
        if not self._clients:  # a queue without room to wait
            raise _full()
        client, accounts = max(self._clients.items(), key=lambda item: _count(item[1]))
        own = self._clients.get(requester.client)
        if own is not None and _count(own) == _count(accounts):
            client, accounts = requester.client, own
        account, waiters = max(accounts.items(), key=lambda item: len(item[1]))
        if client == requester.client and len(accounts.get(requester.account, ())) == len(waiters):
            raise _full()
        refused = waiters[-1]
        self._forget(Requester(client, account), refused)
        if not refused.done():
            refused.set_exception(_full())

    def _forget(self, requester: Requester, granted: asyncio.Future[None]) -> None:
        accounts = self._clients.get(requester.client)
        waiters = accounts.get(requester.account) if accounts is not None else None
        if accounts is None or waiters is None or granted not in waiters:
            return
        waiters.remove(granted)
        self._waiting -= 1
        if not waiters:
            del accounts[requester.account]
        if not accounts:
            del self._clients[requester.client]


def _count(accounts: _Waiters) -> int:
    return sum(len(waiters) for waiters in accounts.values())


def _full() -> RateLimited:
    return RateLimited(retry_after=_RETRY_SECONDS)
