"""The quota of simultaneous transfers: per process, and per URL, user, tenant and client network."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

from contracts.base import Contract
from contracts.errors import RateLimited, UploadInProgress
from infrastructure.limits.quota import LocalQuota, Quota, QuotaKey


class TransferShares(Contract):
    """Numbers of simultaneous transfers of one direction: ``process`` in one process, the others in all processes."""

    process: int
    url: int
    user: int
    tenant: int
    address: int


UPLOADS = TransferShares(process=64, url=1, user=6, tenant=16, address=12)
"""The shares of uploads. Each buffers parts of 5 MiB. Two uploads to one URL would overwrite each other's bytes."""
DOWNLOADS = TransferShares(process=256, url=8, user=12, tenant=64, address=32)
"""The shares of downloads."""


class TransferHolder(NamedTuple):
    """The URL, user, tenant and client network whose shares a transfer uses. ``url`` identifies the signed URL."""

    url: str
    user_id: str
    tenant_id: str
    client_network: str


class TransferQuota:
    """The quota of simultaneous transfers of one direction.

    Args:
        direction: ``upload`` or ``download``; a prefix of the quota keys.
        shares: the limits.
        shared: the quota that counts the transfers of all processes.
    """

    def __init__(self, direction: str, shares: TransferShares, shared: Quota) -> None:
        self._direction = direction
        self._shares = shares
        self._shared = shared
        self._process = LocalQuota()

    @asynccontextmanager
    async def acquire(self, holder: TransferHolder) -> AsyncIterator[None]:
        """Count one transfer while the block runs.

        Raises:
            UploadInProgress: the one transfer that the URL allows is running already.
            RateLimited: another limit is reached.
        """
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._acquire_url(holder.url))
            await stack.enter_async_context(
                self._shared.acquire(
                    self._key("user", holder.user_id, self._shares.user),
                    self._key("tenant", holder.tenant_id, self._shares.tenant),
                    self._key("address", holder.client_network, self._shares.address),
                )
            )
            await stack.enter_async_context(self._process.acquire(self._key("process", "", self._shares.process)))
            yield

    @asynccontextmanager
    async def _acquire_url(self, url: str) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self._shared.acquire(self._key("url", _digest(url), self._shares.url)))
            except RateLimited as error:
                if self._shares.url == 1:
                    raise UploadInProgress() from error
                raise
            yield

    def _key(self, kind: str, owner: str, limit: int) -> QuotaKey:
        return QuotaKey(f"{self._direction}_{kind}", owner, limit)


def _digest(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()
