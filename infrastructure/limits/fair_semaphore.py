"""A semaphore whose slots are shared fairly between clients and accounts; used for expensive work.

No client and no account holds more slots than its share, even if slots are free. Waiting requests receive slots round
robin: first between clients, then between the accounts of one client. If the queue is full, the newest request of the
client with the most waiting requests is refused.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple, TypeAlias

from contracts.errors import RateLimited

_RETRY_AFTER_SECONDS = 1.0

_Waiters: TypeAlias = "OrderedDict[str, deque[asyncio.Future[None]]]"
"""Waiting requests of one client by account; the first account is served next."""


class Requester(NamedTuple):
    """The client and the account whose use of a semaphore is counted."""

    client: str
    """Where the request comes from: a network or a process."""
    account: str
    """For whom the request is made: a user, an e-mail address or the id of one request."""


class FairSemaphore:
    """A semaphore with a share per client and per account, and a bounded queue.

    Args:
        slots: Total number of slots.
        share: Slots that one client may hold.
        max_waiting: Requests that may wait for a slot.
        account_share: Slots that one account may hold; ``share`` by default.
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
        """The number of requests that wait for a slot."""
        return self._waiting

    @asynccontextmanager
    async def slot(self, requester: Requester) -> AsyncIterator[None]:
        """Hold a slot while the block runs.

        Raises:
            RateLimited: The queue is full, and this is the newest request of the client with the most waiting requests.
        """
        await self.acquire(requester)
        try:
            yield
        finally:
            self.release(requester)

    async def acquire(self, requester: Requester) -> None:
        """Wait for a slot and take it; ``release`` returns it.

        Raises:
            RateLimited: The queue is full, and this is the newest request of the client with the most waiting requests.
        """
        if self._has_share_left(requester):  # then no waiting request could be served
            self._take(requester)
            return
        if self._waiting >= self._max_waiting:
            self._evict_or_refuse(requester)
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        accounts = self._clients.setdefault(requester.client, OrderedDict())
        accounts.setdefault(requester.account, deque()).append(granted)
        self._waiting += 1
        try:
            await granted
        except asyncio.CancelledError:
            if granted.cancelled():
                self._dequeue(requester, granted)
            elif granted.exception() is None:  # the slot was granted at the same moment as the cancellation
                self.release(requester)
            raise

    def release(self, requester: Requester) -> None:
        """Return a slot and grant free slots to waiting requests."""
        self._free += 1
        for held, name in ((self._held_by_client, requester.client), (self._held_by_account, requester.account)):
            held[name] -= 1
            if not held[name]:
                del held[name]
        while self._free and self._grant_next():
            pass

    def _has_share_left(self, requester: Requester) -> bool:
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
        """Grant a slot to the first waiting request within its shares. Only requests of slot holders are skipped."""
        for client, accounts in self._clients.items():
            if self._held_by_client[client] >= self._share:
                continue
            for account, waiters in accounts.items():
                requester = Requester(client, account)
                if not self._has_share_left(requester):
                    continue
                granted = waiters[0]
                self._dequeue(requester, granted)
                if account in accounts:
                    accounts.move_to_end(account)
                if client in self._clients:
                    self._clients.move_to_end(client)
                if not granted.done():  # the request may have been cancelled
                    self._take(requester)
                    granted.set_result(None)
                return True
        return False

    def _evict_or_refuse(self, requester: Requester) -> None:
        """Refuse the newest request of the client with the most waiting requests.

        Raises:
            RateLimited: That client is the requester's, and no other account of the client has more waiting requests.
        """
        if not self._clients:  # ``max_waiting`` is 0
            raise _queue_full()
        client, accounts = max(self._clients.items(), key=lambda item: _count(item[1]))
        own = self._clients.get(requester.client)
        if own is not None and _count(own) == _count(accounts):
            client, accounts = requester.client, own
        account, waiters = max(accounts.items(), key=lambda item: len(item[1]))
        if client == requester.client and len(accounts.get(requester.account, ())) == len(waiters):
            raise _queue_full()
        refused = waiters[-1]
        self._dequeue(Requester(client, account), refused)
        if not refused.done():
            refused.set_exception(_queue_full())

    def _dequeue(self, requester: Requester, granted: asyncio.Future[None]) -> None:
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


def _queue_full() -> RateLimited:
    return RateLimited(retry_after=_RETRY_AFTER_SECONDS)
