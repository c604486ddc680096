"""Activities of the users service. The service documents what they raise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio import activity

from contracts.users import HomeTenant, NewUser, TenantChange, User

if TYPE_CHECKING:
    from activities.users.service import UsersService


class Users:
    """Activities that workflows call on the task queue ``users``."""

    def __init__(self, service: UsersService) -> None:
        self._service = service

    @activity.defn
    async def get_home_tenant(self, user_id: str) -> HomeTenant:
        return await self._service.get_home_tenant(user_id)

    @activity.defn
    async def update_user_tenant(self, change: TenantChange) -> HomeTenant:
        return await self._service.update_user_tenant(change)

    @activity.defn
    async def undo_update_user_tenant(self, key: str) -> None:
        await self._service.undo_update_user_tenant(key)

    @activity.defn
    async def create_user(self, new: NewUser) -> User:
        return await self._service.create_user(new)

    @activity.defn
    async def undo_create_user(self, key: str) -> None:
        await self._service.undo_create_user(key)
