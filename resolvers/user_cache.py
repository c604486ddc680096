"""A client of the users service that caches users in the process."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence

from contracts.callers import Caller
from contracts.users import Preferences, PreferencesPatch, User
from infrastructure.caching.cache import LocalCache
from infrastructure.caching.tagged_cache import VALUE_TTL_SECONDS, TaggedCache
from resolvers.clients.users import UsersClient
from resolvers.following.observer import tenant_tag, user_tag

MAX_CACHED_USERS = 10_000
"""Limit of cache entries, each of one user as one caller may see that user; the oldest entries are evicted first."""


class CachedUsersClient:
    """A users client that reads users from a local cache for up to ``VALUE_TTL_SECONDS`` (the cache's lifetime).

    A cached user is not returned after a change that any process has observed: the cache key contains the versions of
    the caller's user tag and tenant tag, as for dashboards. While the store of these versions is unavailable, the
    client caches nothing.
    """

    def __init__(self, users: UsersClient, cache: TaggedCache, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._users = users
        self._cache = cache
        self._cached: LocalCache[Hashable, User] = LocalCache(MAX_CACHED_USERS, clock)

    async def get_users(self, caller: Caller, ids: Sequence[str]) -> tuple[User, ...]:
        """Return the users with these ids whom the caller may see (see ``UsersClient.get_users``)."""
        version = await self._cache.version(user_tag(caller.user_id or ""), tenant_tag(caller.tenant_id or ""))
        if not version:
            return await self._users.get_users(caller, ids)
        view = caller.user_id, caller.tenant_id, caller.permissions, version
        cached = {id: self._cached.get((view, id)) for id in ids}
        found = {id: user for id, user in cached.items() if user is not None}
        if missing := [id for id in cached if id not in found]:
            for user in await self._users.get_users(caller, missing):
                found[user.id] = user
                self._cached.set((view, user.id), user, ttl_seconds=VALUE_TTL_SECONDS)
        return tuple(found[id] for id in ids if id in found)

    async def get_preferences(self, caller: Caller) -> Preferences:
        """Return the caller's preferences; they are not cached."""
        return await self._users.get_preferences(caller)

    async def update_preferences(self, caller: Caller, patch: PreferencesPatch) -> Preferences:
        """Change the caller's preferences (see ``UsersClient.update_preferences``)."""
        return await self._users.update_preferences(caller, patch)
