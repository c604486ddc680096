"""The users service: profiles and their visibility, preferences, and the tenant in which each user works."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from pydantic import JsonValue

from activities.idempotency import run_once, undo_once
from activities.users import models
from contracts.base import Contract, is_id, utc_now
from contracts.email_addresses import email_key
from contracts.errors import EmailTaken, UserNotFound
from contracts.users import HomeTenant, NewUser, Preferences, PreferencesPatch, TenantChange, User
from contracts.validation import Email, LanguageTag, Name, TimeZone, validate


class _Profile(Contract):
    """The validation rules of a new user's profile."""

    email: Email
    name: Name


class _Choices(Contract):
    """The validation rules of preferences."""

    language: LanguageTag | None = None
    timezone: TimeZone | None = None


class _TenantChangeResult(Contract):
    """The stored result of a change of a user's tenant. ``previous_change`` is the key of the change before it."""

    user_id: str
    tenant_id: str
    previous_tenant_id: str
    previous_change: str | None = None


class UsersService:
    """Manages users. A profile is visible to its user, and to users who work in a tenant to which both belong.

    The session of the caller determines the tenant in which the caller works.
    """

    def __init__(self, clock: Callable[[], datetime] = utc_now) -> None:
        self._clock = clock

    async def get_users(
        self, viewer_id: str, tenant_id: str | None, ids: Iterable[str], *, is_administrator: bool = False
    ) -> list[User]:
        """Return the users that the viewer may see, in the requested order.

        Args:
            viewer_id: the user who reads the profiles.
            tenant_id: the tenant in which the viewer works.
            ids: the requested users; ids that are unknown or invisible are left out.
            is_administrator: the viewer administers the tenant and therefore sees ``mfa_enabled`` of other users.
        """
        requested = [each for each in dict.fromkeys(ids) if is_id(each, "usr")]
        members = models.Affiliation.filter(tenant_id=tenant_id or "", user_id__in=[viewer_id, *requested])
        colleagues = {row.user_id for row in await members}
        visible = colleagues & set(requested) if viewer_id in colleagues else set()
        visible |= {viewer_id} & set(requested)
        rows = {row.id: row for row in await models.User.filter(id__in=visible)}
        return [_user(rows[each], with_mfa=is_administrator or each == viewer_id) for each in requested if each in rows]

    async def get_home_tenant(self, user_id: str) -> HomeTenant:
        """Return the tenant in which the user works.

        Raises:
            UserNotFound: there is no such user.
        """
        row = await models.User.get_or_none(id=user_id if is_id(user_id, "usr") else "")
        if row is None:
            raise UserNotFound()
        return HomeTenant(user_id=row.id, tenant_id=row.tenant_id)

    async def update_user_tenant(self, change: TenantChange) -> HomeTenant:
        """Set the tenant in which the user works.

        Raises:
            UserNotFound: there is no such user.
        """

        async def update() -> JsonValue:
            row = await models.User.select_for_update().get_or_none(id=change.user_id)
            if row is None:
                raise UserNotFound()
            await models.User.filter(id=row.id).update(tenant_id=change.tenant_id, tenant_change_key=change.key)
            return _TenantChangeResult(
                user_id=row.id,
                tenant_id=change.tenant_id,
                previous_tenant_id=row.tenant_id,
                previous_change=row.tenant_change_key,
            ).model_dump()

        done = _TenantChangeResult.model_validate(await run_once(models.UsersIdempotencyRecord, change.key, update))
        return HomeTenant(user_id=done.user_id, tenant_id=done.tenant_id)

    async def undo_update_user_tenant(self, key: str) -> None:
        """Restore the tenant before the change, unless a later change has set the tenant, even to the same one."""

        async def restore(answer: JsonValue) -> None:
            done = _TenantChangeResult.model_validate(answer)
            row = await models.User.select_for_update().get_or_none(id=done.user_id)
            if row is None or row.tenant_change_key not in (key, None) or row.tenant_id != done.tenant_id:
                return
            first = await _earliest_undone(done)
            await models.User.filter(id=row.id).update(
                tenant_id=first.previous_tenant_id, tenant_change_key=first.previous_change
            )

        await undo_once(models.UsersIdempotencyRecord, key, restore)

    async def get_preferences(self, user_id: str) -> Preferences:
        """Return the user's preferences, or the defaults."""
        row = await models.Preferences.get_or_none(user_id=user_id)
        return Preferences() if row is None else _preferences(row)

    async def update_preferences(self, user_id: str, patch: PreferencesPatch) -> Preferences:
        """Set the preferences that the patch contains, and return all preferences.

        Raises:
            InvalidInput: names the path of each invalid field.
        """
        choices = validate(_Choices, patch.model_dump(include={"language", "timezone"}))
        changed = patch.model_copy(update=choices.model_dump()).model_dump(exclude_none=True)
        if changed:
            row = models.Preferences(user_id=user_id, **Preferences(**changed).model_dump())
            await models.Preferences.bulk_create([row], on_conflict=["user_id"], update_fields=list(changed))
        return await self.get_preferences(user_id)

    async def create_user(self, new: NewUser) -> User:
        """Create a user who belongs to the tenant and works in it.

        Raises:
            InvalidInput: the e-mail address or the name is not valid.
            EmailTaken: another user has an equivalent e-mail address.
        """
        profile = validate(_Profile, {"email": new.email, "name": new.name})
        key = email_key(profile.email)

        async def create() -> JsonValue:
            if await models.User.exists(email_key=key):
                raise EmailTaken.for_field("email")
            row = await models.User.create(
                id=new.user_id,
                email=profile.email,
                email_key=key,
                name=profile.name,
                mfa_enabled=new.mfa_enabled,
                tenant_id=new.tenant_id,
                created_at=self._clock(),
            )
            await models.Affiliation.create(user_id=row.id, tenant_id=new.tenant_id)
            return _user(row).model_dump(mode="json")

        return User.model_validate(await run_once(models.UsersIdempotencyRecord, new.key, create))

    async def undo_create_user(self, key: str) -> None:
        """Delete the user that the step of this key created, with the preferences and affiliations."""

        async def delete(answer: JsonValue) -> None:
            user_id = User.model_validate(answer).id
            await models.Preferences.filter(user_id=user_id).delete()
            await models.Affiliation.filter(user_id=user_id).delete()
            await models.User.filter(id=user_id).delete()

        await undo_once(models.UsersIdempotencyRecord, key, delete)


async def _earliest_undone(change: _TenantChangeResult) -> _TenantChangeResult:
    """Return the earliest of the consecutive changes directly before this one that were undone; else this change."""
    while change.previous_change is not None:
        before = await models.UsersIdempotencyRecord.get_or_none(key=change.previous_change)
        if before is None or not before.is_undone or not before.result:
            break
        change = _TenantChangeResult.model_validate(before.result[0])
    return change


def _user(row: models.User, *, with_mfa: bool = True) -> User:
    mfa_enabled = row.mfa_enabled if with_mfa else None
    return User(id=row.id, email=row.email, name=row.name, mfa_enabled=mfa_enabled, created_at=row.created_at)


def _preferences(row: models.Preferences) -> Preferences:
    return Preferences(
        language=row.language,
        timezone=row.timezone,
        theme=row.theme,
        email_notifications=row.email_notifications,
    )
