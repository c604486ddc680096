"""Client of the users service: profiles and preferences."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import TypeAdapter

from contracts.base import Ids
from contracts.callers import Caller
from contracts.users import Preferences, PreferencesPatch, User
from resolvers.clients.base import ServiceClient

_USERS = TypeAdapter(tuple[User, ...])
_PREFERENCES = TypeAdapter(Preferences)


class UsersClient:
    """Calls the users service."""

    def __init__(self, service: ServiceClient) -> None:
        self._service = service

    async def get_users(self, caller: Caller, ids: Sequence[str]) -> tuple[User, ...]:
        """Return the users with these ids whom the caller may see; at most 500 ids."""
        return await self._service.call("get_users", caller, Ids(ids=tuple(ids)).model_dump_json(), _USERS)

    async def get_preferences(self, caller: Caller) -> Preferences:
        """Return the caller's preferences."""
        return await self._service.call("get_preferences", caller, b"{}", _PREFERENCES)

    async def update_preferences(self, caller: Caller, patch: PreferencesPatch) -> Preferences:
        """Change the caller's preferences and return them. Raises InvalidInput for ``language`` or ``timezone``."""
        return await self._service.call("update_preferences", caller, patch.model_dump_json(), _PREFERENCES)
