"""Updates what depends on the states of operations that this process reads: cached copies and measured durations."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import structlog

from contracts.base import utc_now
from contracts.operations import Operation, OperationKind
from infrastructure.caching.tagged_cache import VALUE_TTL_SECONDS, TaggedCache
from resolvers.operations.step_durations import Durations

PATIENCE_SECONDS = 1.0
"""Maximum delay of a state by a slow cache."""
_RECENT = timedelta(seconds=2 * VALUE_TTL_SECONDS)
_OF_ONE_USER = frozenset((OperationKind.LOGIN, OperationKind.TENANT_SWITCH))
"""What any other changes, the rest of the tenant sees too."""

log = structlog.get_logger()


def user_tag(user_id: str) -> str:
    """Return the tag of cached values that contain data of this user."""
    return f"user:{user_id}"


def tenant_tag(tenant_id: str) -> str:
    """Return the tag of cached values that contain data of this tenant."""
    return f"tenant:{tenant_id}"


class OperationObserver:
    """Receives each new state before clients do, so a client that reads after a close finds what it changed."""

    def __init__(self, cache: TaggedCache, durations: Durations) -> None:
        self._cache = cache
        self._durations = durations

    async def see(self, operation: Operation) -> None:
        self._durations.learn(operation)
        if operation.closed_at is None or operation.closed_at < utc_now() - _RECENT:
            return  # no copy is older than that
        await self.closed(operation)

    async def closed(self, operation: Operation) -> None:
        """Outdate the copies of what the operation has changed."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._closed(operation)
        except Exception as error:  # noqa: BLE001 - copies expire by themselves; the operation must go on
            log.warning("a close was not passed on", workflow_id=operation.id, error=repr(error))

    async def _closed(self, operation: Operation) -> None:
        tags = [user_tag(operation.user_id)]
        if operation.kind not in _OF_ONE_USER:
            tags += [tenant_tag(tenant_id) for tenant_id in operation.tenant_ids]
        await self._cache.invalidate(*tags)
