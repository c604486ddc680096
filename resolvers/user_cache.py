"""Users as this process saw them a moment ago: who asks for the same ones again waits for no service."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence

from contracts.service_tokens import Caller
from contracts.users import Preferences, PreferencesPatch, User
from infrastructure.caching.cache import LocalCache
from infrastructure.caching.tagged_cache import FRESH_SECONDS, TaggedCache
from resolvers.clients.users import UsersClient
from resolvers.following.observer import tenant_tag, user_tag

MOST = 10_000
"""Copies that are kept, each of one user as one caller sees them; the oldest are dropped first."""


class CachedUsersClient:
    """The users service, asked only for those of whom there is no copy. Copies last ``FRESH_SECONDS`` at most.

    A change that any process sees outdates them at once, as it does those of dashboards: both depend on the same tags.
    While the cache that keeps the versions of tags is unavailable, there are no copies.
    """

    def __init__(self, users: UsersClient, cache: TaggedCache, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._users = users
        self._cache = cache
        self._known: LocalCache[Hashable, User] = LocalCache(MOST, clock)

    async def users(self, caller: Caller, ids: Sequence[str]) -> tuple[User, ...]:
        """As ``UsersClient.users``."""
        version = await self._cache.version(user_tag(caller.user_id or ""), tenant_tag(caller.tenant_id or ""))
        if not version:
            return await self._users.users(caller, ids)
        as_seen_by = caller.user_id, caller.tenant_id, caller.permissions, version
        known = {id: self._known.get((as_seen_by, id)) for id in ids}
        found = {id: user for id, user in known.items() if user is not None}
        if missing := [id for id in known if id not in found]:
            for user in await self._users.users(caller, missing):
                found[user.id] = user
                self._known.set((as_seen_by, user.id), user, ttl_seconds=FRESH_SECONDS)
        return tuple(found[id] for id in ids if id in found)

    async def preferences(self, caller: Caller) -> Preferences:
        return await self._users.preferences(caller)

    async def update_preferences(self, caller: Caller, patch: PreferencesPatch) -> Preferences:
        return await self._users.update_preferences(caller, patch)
