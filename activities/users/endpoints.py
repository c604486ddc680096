"""HTTP endpoints of the users service, for requests that need no workflow."""

from __future__ import annotations

from starlette.routing import Route

from activities.http import EmptyBody, endpoint, user_of
from activities.users.service import UsersService
from contracts.base import Ids
from contracts.callers import Caller
from contracts.users import Preferences, PreferencesPatch, User
from infrastructure.signing.service_tokens import ServiceTokenSigner


def routes(service: UsersService, signer: ServiceTokenSigner) -> list[Route]:
    async def get_users(caller: Caller, requested: Ids) -> list[User]:
        is_administrator = "users:read" in caller.permissions
        return await service.get_users(
            user_of(caller), caller.tenant_id, requested.ids, is_administrator=is_administrator
        )

    async def get_preferences(caller: Caller, _: EmptyBody) -> Preferences:
        return await service.get_preferences(user_of(caller))

    async def update_preferences(caller: Caller, patch: PreferencesPatch) -> Preferences:
        return await service.update_preferences(user_of(caller), patch)

    return [
        endpoint("/users/get_users", signer, Ids, get_users),
        endpoint("/users/get_preferences", signer, EmptyBody, get_preferences),
        endpoint("/users/update_preferences", signer, PreferencesPatch, update_preferences),
    ]
