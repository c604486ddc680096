"""Observer of operation states: invalidates cached data that an operation changed, and records step durations."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import structlog

from contracts.base import utc_now
from contracts.operations import Operation, OperationKind
from infrastructure.caching.tagged_cache import VALUE_TTL_SECONDS, TaggedCache
from resolvers.operations.step_durations import StepDurations

INVALIDATION_TIMEOUT_SECONDS = 1.0
"""Maximum time that a slow cache delays a state."""
_RECENT = timedelta(seconds=2 * VALUE_TTL_SECONDS)
"""Age of a close up to which the cache may hold data from before it."""
_SINGLE_USER_KINDS = frozenset((OperationKind.LOGIN, OperationKind.TENANT_SWITCH))
"""Kinds of operations that change data of their user only; all other kinds change data of the tenant."""

log = structlog.get_logger()


def user_tag(user_id: str) -> str:
    """Return the tag of cached values that contain data of this user."""
    return f"user:{user_id}"


def tenant_tag(tenant_id: str) -> str:
    """Return the tag of cached values that contain data of this tenant."""
    return f"tenant:{tenant_id}"


class OperationObserver:
    """Receives each new state before clients do, so that a client that reads after a close finds the changed data."""

    def __init__(self, cache: TaggedCache, durations: StepDurations) -> None:
        self._cache = cache
        self._durations = durations

    async def observe(self, operation: Operation) -> None:
        """Record the durations of finished steps; after a recent close, invalidate the data that it changed."""
        self._durations.record(operation)
        if operation.closed_at is None or operation.closed_at < utc_now() - _RECENT:
            return  # cached values expire earlier than that
        await self.invalidate(operation)

    async def invalidate(self, operation: Operation) -> None:
        """Invalidate the cached data that the operation has changed; a failure is only logged."""
        try:
            async with asyncio.timeout(INVALIDATION_TIMEOUT_SECONDS):
                await self._invalidate_tags(operation)
        except Exception as error:  # noqa: BLE001 - cached values expire anyway; the state must still reach clients
            log.warning("cache_invalidation_failed", workflow_id=operation.id, error=repr(error))

    async def _invalidate_tags(self, operation: Operation) -> None:
        tags = [user_tag(operation.user_id)]
        if operation.kind not in _SINGLE_USER_KINDS:
            tags += [tenant_tag(tenant_id) for tenant_id in operation.tenant_ids]
        await self._cache.invalidate(*tags)
