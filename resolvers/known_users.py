"""Users as this process saw them a moment ago: who asks for the same ones again waits for no service."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

from contracts.calls import Caller
from contracts.users import Preferences, PreferencesPatch, User
from resolvers.cache import FRESH_SECONDS, Copies
from resolvers.clients.users import UsersClient
from resolvers.observer import tenant_scope, user_scope

MOST = 10_000
"""Copies that are kept, each of one user as one caller sees them; the oldest are dropped first."""


class _Known(NamedTuple):
    user: User
    until: float


class KnownUsers:
    """The users service, asked only for those of whom there is no copy. Copies last ``FRESH_SECONDS`` at most.

    A change that any process sees outdates them at once, as it does those of dashboards: both carry its stamp. While
    the cache that keeps the stamps does not answer, there are no copies.
    """

    def __init__(self, users: UsersClient, copies: Copies, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._users = users
        self._copies = copies
        self._clock = clock
        self._known: dict[Hashable, _Known] = {}

    async def users(self, caller: Caller, ids: Sequence[str]) -> tuple[User, ...]:
        """As ``UsersClient.users``."""
        stamp = await self._copies.stamp(user_scope(caller.user_id or ""), tenant_scope(caller.tenant_id or ""))
        if not stamp:
            return await self._users.users(caller, ids)
        as_seen_by, now = (caller.user_id, caller.tenant_id, caller.permissions, stamp), self._clock()
        known = (self._known.get((as_seen_by, id)) for id in ids)
        found = {each.user.id: each.user for each in known if each is not None and each.until > now}
        missing = [id for id in ids if id not in found]
        if missing:
            for user in await self._users.users(caller, missing):
                found[user.id] = user
                self._known.pop((as_seen_by, user.id), None)
                self._known[as_seen_by, user.id] = _Known(user, now + FRESH_SECONDS)
            while len(self._known) > MOST:
                del self._known[next(iter(self._known))]
        return tuple(found[id] for id in ids if id in found)

    async def preferences(self, caller: Caller) -> Preferences:
        return await self._users.preferences(caller)

    async def update_preferences(self, caller: Caller, patch: PreferencesPatch) -> Preferences:
        return await self._users.update_preferences(caller, patch)
