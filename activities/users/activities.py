"""The steps that a workflow may ask of users."""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio import activity

from contracts.users import HomeTenant, NewUser, TenantChange, User

if TYPE_CHECKING:
    from activities.users.service import UsersService


class Users:
    def __init__(self, service: UsersService) -> None:
        self._service = service

    @activity.defn
    async def home_tenant(self, user_id: str) -> HomeTenant:
        return await self._service.home_tenant(user_id)

    @activity.defn
    async def update_user_tenant(self, change: TenantChange) -> HomeTenant:
        return await self._service.update_user_tenant(change)

    @activity.defn
    async def restore_user_tenant(self, key: str) -> None:
        await self._service.restore_user_tenant(key)

    @activity.defn
    async def create_user(self, new: NewUser) -> User:
        return await self._service.create_user(new)

    @activity.defn
    async def delete_user(self, key: str) -> None:
        await self._service.delete_user(key)
