"""The users service as the edge calls it: profiles and preferences."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import TypeAdapter

from contracts.base import Ids
from contracts.service_tokens import Caller
from contracts.users import Preferences, PreferencesPatch, User
from resolvers.clients.base import ServiceClient

_USERS = TypeAdapter(tuple[User, ...])
_PREFERENCES = TypeAdapter(Preferences)


class UsersClient:
    def __init__(self, calls: ServiceClient) -> None:
        self._calls = calls

    async def users(self, caller: Caller, ids: Sequence[str]) -> tuple[User, ...]:
        """Those of them that the caller may see; at most 500 ids."""
        return await self._calls.call("get_users", caller, Ids(ids=tuple(ids)).model_dump_json(), _USERS)

    async def preferences(self, caller: Caller) -> Preferences:
        return await self._calls.call("get_preferences", caller, b"{}", _PREFERENCES)

    async def update_preferences(self, caller: Caller, patch: PreferencesPatch) -> Preferences:
        """The preferences as they now are; InvalidInput naming ``language`` or ``timezone``."""
        return await self._calls.call("update_preferences", caller, patch.model_dump_json(), _PREFERENCES)
