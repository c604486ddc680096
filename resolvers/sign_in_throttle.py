"""How often somebody may try to sign in: by account, by where they come from, and by the device they are known by.

Every try is counted before anything is looked at, and given back where it did no harm, so that whoever knows their
password is never slowed down. Whoever guesses empties buckets that fill up again, and no one's guesses empty those of a
device from which the account's owner has signed in before: nobody can keep an owner out.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from contracts.email_addresses import email_key
from contracts.errors import DomainError, InvalidCredentials, TooManyAttempts
from contracts.secret_keys import SecretKeys
from infrastructure.limits.fair_semaphore import FairSemaphore, Requester
from infrastructure.limits.rate_limit import RateLimitKey, TokenBucketStore

DEVICE_SECONDS = 180 * 24 * 3600
"""How long a device is known without a sign-in."""
_MAX_CONCURRENT = 8
"""Logins that one process checks at a time: fewer than the attempts of one account, since each holds one of these."""
_SHARE = 4
"""Of these, for one client network and for one account."""
_MAX_WAITING = 200
_QUARTER = 900.0
_CODE_SECONDS = 4 * 3600.0


class ClientInfo(NamedTuple):
    """Who sends something, as far as that can be told before anybody has signed in: the network that they are in, and
    what their device says that it is known by. ``digest`` stands for the network in logs and in calls of services.
    """

    network: str = ""
    device: str | None = None
    digest: str = ""


class SignInLimits(NamedTuple):
    """Tries that fail, before the next has to wait. Passwords come back within a quarter of an hour, codes in four
    hours: there are only a million of them.
    """

    account_and_network: int = 10
    device: int = 10
    account: int = 50
    network: int = 100
    codes: int = 20


class SignInThrottle:
    """Limits sign-in attempts; one per process. ``keys`` digest the counted addresses and accounts.

    Attempts are counted under the current key, so a rotation resets the counts. A device stays known under a former
    key and gets a new name at its next sign-in.
    """

    def __init__(
        self, store: TokenBucketStore, keys: SecretKeys, limits: SignInLimits, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._keys = keys
        self._limits = limits
        self._clock = clock
        self._slots = FairSemaphore(_MAX_CONCURRENT, share=_SHARE, max_waiting=_MAX_WAITING)

    @asynccontextmanager
    async def trying_password(self, email: str, client: ClientInfo) -> AsyncIterator[None]:
        """While the block runs, somebody tries; the try is lost where it raises InvalidCredentials.

        Raises TooManyAttempts, alike for accounts that there are and that there are not, and ServiceUnavailable where
        nobody can count.
        """
        account, network = self._digest("account", email_key(email)), self._digest("network", client.network)
        device = self._device(client.device, email_key(email), self._keys.all)
        if device is not None:
            buckets = [RateLimitKey(f"device:{device}", self._limits.device, _QUARTER)]
        else:
            buckets = [
                RateLimitKey(f"both:{account}:{network}", self._limits.account_and_network, _QUARTER),
                RateLimitKey(f"account:{account}", self._limits.account, _QUARTER),
                RateLimitKey(f"network:{network}", self._limits.network, _QUARTER),
            ]
        async with self._slots.slot(Requester(network, account)), self._trying(buckets):
            yield

    @asynccontextmanager
    async def trying_code(self, user_id: str) -> AsyncIterator[None]:
        """The same for a second factor, over all of a user's logins. Only who has the password gets here."""
        async with self._trying(
            [RateLimitKey(f"codes:{self._digest('codes', user_id)}", self._limits.codes, _CODE_SECONDS)]
        ):
            yield

    def new_device(self, email: str, client: ClientInfo) -> str | None:
        """What a device is known by from now on, after the account's password was right there; None where it is
        known. It opens nothing.
        """
        account = self._digest("account", email_key(email))
        if self._device(client.device, email_key(email), (self._keys.current,)) is not None:
            return None
        name = f"{secrets.token_urlsafe(12)}.{int(self._clock()) + DEVICE_SECONDS}"
        return f"{name}.{self._digest('device', account, name)}"

    def _device(self, presented: str | None, email: str, keys: Sequence[bytes]) -> str | None:
        """The name of the device, where it is known for this account under one of the keys."""
        name, _, mark = (presented or "").rpartition(".")
        _, _, until = name.partition(".")
        marks = (_digest(key, "device", _digest(key, "account", email), name) for key in keys)
        if not any(hmac.compare_digest(mark.encode(), each.encode()) for each in marks):
            return None
        return name if int(until) > self._clock() else None

    @asynccontextmanager
    async def _trying(self, buckets: Sequence[RateLimitKey]) -> AsyncIterator[None]:
        wait = await self._store.consume(buckets)
        if wait > 0:
            raise TooManyAttempts(retry_after=math.ceil(wait))
        try:
            yield
        except InvalidCredentials:
            raise
        except DomainError:  # it was not looked at; whatever else happened, it may have been
            await self._store.refund(buckets)
            raise
        await self._store.refund(buckets)

    def _digest(self, purpose: str, *parts: str) -> str:
        return _digest(self._keys.current, purpose, *parts)


def _digest(key: bytes, purpose: str, *parts: str) -> str:
    message = "\0".join(("throttle", purpose, *parts)).encode()
    return hmac.new(key, message, hashlib.sha256).hexdigest()[:32]
