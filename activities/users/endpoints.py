"""Users over HTTP, for what needs no workflow."""

from __future__ import annotations

from starlette.routing import Route

from activities.calls import Nothing, endpoint, user_of
from activities.users.service import UsersService
from contracts.base import Ids
from contracts.calls import Caller, CallSigner
from contracts.users import Preferences, PreferencesPatch, User


def routes(service: UsersService, signer: CallSigner) -> list[Route]:
    async def get_users(caller: Caller, wanted: Ids) -> list[User]:
        administers = "users:read" in caller.permissions
        return await service.get_users(user_of(caller), caller.tenant_id, wanted.ids, administers=administers)

    async def get_preferences(caller: Caller, _: Nothing) -> Preferences:
        return await service.get_preferences(user_of(caller))

    async def update_preferences(caller: Caller, patch: PreferencesPatch) -> Preferences:
        return await service.update_preferences(user_of(caller), patch)

    return [
        endpoint("/users/get_users", signer, Ids, get_users),
        endpoint("/users/get_preferences", signer, Nothing, get_preferences),
        endpoint("/users/update_preferences", signer, PreferencesPatch, update_preferences),
    ]
