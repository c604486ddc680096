"""The rules of users: whose profile who may see, what they prefer, and the tenant that each works in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from pydantic import JsonValue

from activities.idempotency import once, undo
from activities.users import models
from contracts.base import Contract, is_id, utc_now
from contracts.email_addresses import email_key
from contracts.errors import EmailTaken, UserNotFound
from contracts.users import HomeTenant, NewUser, Preferences, PreferencesPatch, TenantChange, User
from contracts.validation import Email, LanguageTag, Name, TimeZone, validate


class _Profile(Contract):
    """What a new user's profile has to be."""

    email: Email
    name: Name


class _Choices(Contract):
    """What preferences have to be."""

    language: LanguageTag | None = None
    timezone: TimeZone | None = None


class _Change(Contract):
    """What the ledger keeps of a change of the tenant that a user works in. ``previous_change`` made the one before."""

    user_id: str
    tenant_id: str
    previous_tenant_id: str
    previous_change: str | None = None


class UsersService:
    """A profile is visible to its user, and to whoever works in a tenant that both belong to.

    The tenant that a caller works in is the word of the session, and comes with the call.
    """

    def __init__(self, clock: Callable[[], datetime] = utc_now) -> None:
        self._clock = clock

    async def get_users(
        self, viewer_id: str, tenant_id: str | None, ids: Iterable[str], *, administers: bool = False
    ) -> list[User]:
        """Those of them that the viewer may see, in the order asked for.

        ``administers``: the viewer administers the tenant, and so sees who has a second factor.
        """
        wanted = [each for each in dict.fromkeys(ids) if is_id(each, "usr")]
        members = models.Affiliation.filter(tenant_id=tenant_id or "", user_id__in=[viewer_id, *wanted])
        colleagues = {row.user_id for row in await members}
        visible = colleagues & set(wanted) if viewer_id in colleagues else set()
        visible |= {viewer_id} & set(wanted)
        rows = {row.id: row for row in await models.User.filter(id__in=visible)}
        return [_user(rows[each], shows_mfa=administers or each == viewer_id) for each in wanted if each in rows]

    async def home_tenant(self, user_id: str) -> HomeTenant:
        """Raises UserNotFound."""
        row = await models.User.get_or_none(id=user_id if is_id(user_id, "usr") else "")
        if row is None:
            raise UserNotFound()
        return HomeTenant(user_id=row.id, tenant_id=row.tenant_id)

    async def update_user_tenant(self, change: TenantChange) -> HomeTenant:
        """Raises UserNotFound."""

        async def update() -> JsonValue:
            row = await models.User.select_for_update().get_or_none(id=change.user_id)
            if row is None:
                raise UserNotFound()
            await models.User.filter(id=row.id).update(tenant_id=change.tenant_id, tenant_change=change.key)
            return _Change(
                user_id=row.id,
                tenant_id=change.tenant_id,
                previous_tenant_id=row.tenant_id,
                previous_change=row.tenant_change,
            ).model_dump()

        done = _Change.model_validate(await once(models.UsersEffect, change.key, update))
        return HomeTenant(user_id=done.user_id, tenant_id=done.tenant_id)

    async def restore_user_tenant(self, key: str) -> None:
        """The tenant before the change, unless a later change has set one since, be it the same."""

        async def restore(answer: JsonValue) -> None:
            done = _Change.model_validate(answer)
            row = await models.User.select_for_update().get_or_none(id=done.user_id)
            # No change at all is noted where a release set it that did not note them yet.
            if row is None or row.tenant_change not in (key, None) or row.tenant_id != done.tenant_id:
                return
            first = await _first_to_go(done)
            await models.User.filter(id=row.id).update(
                tenant_id=first.previous_tenant_id, tenant_change=first.previous_change
            )

        await undo(models.UsersEffect, key, restore)

    async def get_preferences(self, user_id: str) -> Preferences:
        row = await models.Preferences.get_or_none(user_id=user_id)
        return Preferences() if row is None else _preferences(row)

    async def update_preferences(self, user_id: str, patch: PreferencesPatch) -> Preferences:
        """Set what the patch names. Raises InvalidInput with the path of each field that is wrong."""
        choices = validate(_Choices, patch.model_dump(include={"language", "timezone"}))
        changed = patch.model_copy(update=choices.model_dump()).model_dump(exclude_none=True)
        if changed:
            row = models.Preferences(user_id=user_id, **Preferences(**changed).model_dump())
            await models.Preferences.bulk_create([row], on_conflict=["user_id"], update_fields=list(changed))
        return await self.get_preferences(user_id)

    async def create_user(self, new: NewUser) -> User:
        """A user who belongs to the tenant and works in it. Raises InvalidInput, EmailTaken."""
        profile = validate(_Profile, {"email": new.email, "name": new.name})
        key = email_key(profile.email)

        async def create() -> JsonValue:
            if await models.User.exists(email_key=key):
                raise EmailTaken.at("email")
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

        return User.model_validate(await once(models.UsersEffect, new.key, create))

    async def delete_user(self, key: str) -> None:
        async def delete(answer: JsonValue) -> None:
            user_id = User.model_validate(answer).id
            await models.Preferences.filter(user_id=user_id).delete()
            await models.Affiliation.filter(user_id=user_id).delete()
            await models.User.filter(id=user_id).delete()

        await undo(models.UsersEffect, key, delete)


async def _first_to_go(change: _Change) -> _Change:
    """The change, or the earliest right before it that was undone while this one stood on top of it."""
    while change.previous_change is not None:
        before = await models.UsersEffect.get_or_none(key=change.previous_change)
        if before is None or not before.undone or not before.answer:
            break
        change = _Change.model_validate(before.answer[0])
    return change


def _user(row: models.User, *, shows_mfa: bool = True) -> User:
    mfa_enabled = row.mfa_enabled if shows_mfa else None
    return User(id=row.id, email=row.email, name=row.name, mfa_enabled=mfa_enabled, created_at=row.created_at)


def _preferences(row: models.Preferences) -> Preferences:
    return Preferences(
        language=row.language,
        timezone=row.timezone,
        theme=row.theme,
        email_notifications=row.email_notifications,
    )
