"""Throttling of sign-in attempts per account, client network and known device.

An attempt is counted before the password is checked, and the count is refunded unless the password was wrong, so that
users who know their password are never delayed. A device from which the user has signed in before has its own limit, so
that wrong guesses of others cannot lock the user out.
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
from infrastructure.limits.fair_semaphore import FairSemaphore, Requester
from infrastructure.limits.rate_limit import RateLimitKey, TokenBucketStore
from infrastructure.signing.secret_keys import SecretKeys

DEVICE_TOKEN_LIFETIME_SECONDS = 180 * 24 * 3600
"""Lifetime of a device token after the last sign-in: 180 days."""
_MAX_CONCURRENT = 8
"""Limit of password checks that run concurrently in one process. It is lower than the attempts per account."""
_MAX_CONCURRENT_SHARE = 4
"""Limit of concurrent password checks for one client network and for one account."""
_MAX_WAITING = 200
_PASSWORD_REFILL_SECONDS = 900.0
_CODE_REFILL_SECONDS = 4 * 3600.0


class ClientInfo(NamedTuple):
    """Identification of a client without a session.

    Attributes:
        network: the client's network, derived from its IP address.
        device: the device token that the client presented, not verified; None if it presented none.
        digest: keyed digest of the network, for logs and calls of services.
    """

    network: str = ""
    device: str | None = None
    digest: str = ""


class SignInLimits(NamedTuple):
    """Number of failed attempts after which the next attempt must wait, by counter.

    The counters of passwords are full again after 15 minutes. ``codes`` (MFA codes per user) is full again after four
    hours, because there are only a million codes.
    """

    account_and_network: int = 10
    device: int = 10
    account: int = 50
    network: int = 100
    codes: int = 20


class SignInThrottle:
    """Limits sign-in attempts.

    Attempts are counted under digests with the current key, so that a key rotation resets the counters. A device token
    that was signed with a former key remains valid and is replaced at the next sign-in.

    Args:
        store: the store of the token buckets.
        keys: the keys for digests of networks and accounts, and for signatures of device tokens.
        limits: the number of failed attempts per counter.
        clock: returns the current time in seconds since the epoch.
    """

    def __init__(
        self, store: TokenBucketStore, keys: SecretKeys, limits: SignInLimits, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._keys = keys
        self._limits = limits
        self._clock = clock
        self._slots = FairSemaphore(_MAX_CONCURRENT, share=_MAX_CONCURRENT_SHARE, max_waiting=_MAX_WAITING)

    @asynccontextmanager
    async def password_attempt(self, email: str, client: ClientInfo) -> AsyncIterator[None]:
        """Count an attempt to sign in while the block checks the password.

        The count is refunded unless the block raises InvalidCredentials or an unexpected error.

        Raises:
            TooManyAttempts: a limit is exceeded; the same for existing and unknown accounts.
            ServiceUnavailable: the store of the counters is unavailable.
        """
        account, network = self._digest("account", email_key(email)), self._digest("network", client.network)
        device = self._device(client.device, email_key(email), self._keys.all)
        if device is not None:
            buckets = [RateLimitKey(f"device:{device}", self._limits.device, _PASSWORD_REFILL_SECONDS)]
        else:
            buckets = [
                RateLimitKey(
                    f"account_and_network:{account}:{network}",
                    self._limits.account_and_network,
                    _PASSWORD_REFILL_SECONDS,
                ),
                RateLimitKey(f"account:{account}", self._limits.account, _PASSWORD_REFILL_SECONDS),
                RateLimitKey(f"network:{network}", self._limits.network, _PASSWORD_REFILL_SECONDS),
            ]
        async with self._slots.slot(Requester(network, account)), self._attempt(buckets):
            yield

    @asynccontextmanager
    async def code_attempt(self, user_id: str) -> AsyncIterator[None]:
        """Count an attempt to submit an MFA code, over all logins of the user (otherwise as ``password_attempt``)."""
        async with self._attempt(
            [RateLimitKey(f"mfa_codes:{self._digest('codes', user_id)}", self._limits.codes, _CODE_REFILL_SECONDS)]
        ):
            yield

    def issue_device_token(self, email: str, client: ClientInfo) -> str | None:
        """Return a new device token after a successful sign-in; None if the client's token is valid already.

        The token identifies the device for the throttle only; it grants no access.
        """
        account = self._digest("account", email_key(email))
        if self._device(client.device, email_key(email), (self._keys.current,)) is not None:
            return None
        name = f"{secrets.token_urlsafe(12)}.{int(self._clock()) + DEVICE_TOKEN_LIFETIME_SECONDS}"
        return f"{name}.{self._digest('device', account, name)}"

    def _device(self, presented: str | None, email: str, keys: Sequence[bytes]) -> str | None:
        """Return the name in the device token; None if the token is not valid for the account under any of the keys."""
        name, _, signature = (presented or "").rpartition(".")
        _, _, expires_at = name.partition(".")
        signatures = (_digest(key, "device", _digest(key, "account", email), name) for key in keys)
        if not any(hmac.compare_digest(signature.encode(), each.encode()) for each in signatures):
            return None
        return name if int(expires_at) > self._clock() else None

    @asynccontextmanager
    async def _attempt(self, buckets: Sequence[RateLimitKey]) -> AsyncIterator[None]:
        wait = await self._store.consume(buckets)
        if wait > 0:
            raise TooManyAttempts(retry_after=math.ceil(wait))
        try:
            yield
        except InvalidCredentials:
            raise
        except DomainError:  # the credentials were not checked; after any other exception they may have been
            await self._store.refund(buckets)
            raise
        await self._store.refund(buckets)

    def _digest(self, purpose: str, *parts: str) -> str:
        return _digest(self._keys.current, purpose, *parts)


def _digest(key: bytes, purpose: str, *parts: str) -> str:
    message = "\0".join(("throttle", purpose, *parts)).encode()
    return hmac.new(key, message, hashlib.sha256).hexdigest()[:32]
