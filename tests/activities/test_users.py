"""Users: whose profile who may see, the tenant that each works in, and what they prefer."""

import asyncio

import pytest

from activities.users import models
from activities.users.service import UsersService
from contracts.base import new_id
from contracts.errors import EmailTaken, InvalidInput, StepAlreadyUndone, UserNotFound
from contracts.users import HomeTenant, NewUser, Preferences, PreferencesPatch, TenantChange, Theme, User
from tests.activities.conftest import Clock
from tests.activities.locks import held_row

ACME, GLOBEX = new_id("ten"), new_id("ten")
ADA = new_id("usr")


@pytest.fixture
def service(any_database: None, clock: Clock) -> UsersService:
    return UsersService(clock)


def new_user(account: str, tenant_id: str = ACME, name: str = "Somebody") -> NewUser:
    return NewUser(
        key=f"onboarding-{account}:create_user",
        user_id=new_id("usr"),
        email=f"{account}@example.com",
        name=name,
        mfa_enabled=False,
        tenant_id=tenant_id,
    )


async def create(service: UsersService, account: str, tenant_id: str = ACME) -> User:
    return await service.create_user(new_user(account, tenant_id))


async def test_user_sees_self_and_members_of_the_current_tenant(service: UsersService) -> None:
    ada, grace, alan = (
        await create(service, "ada"),
        await create(service, "grace"),
        await create(service, "alan", GLOBEX),
    )

    seen = await service.get_users(ada.id, ACME, [alan.id, grace.id, ada.id, grace.id], is_administrator=True)

    assert seen == [grace, ada]


async def test_user_of_two_tenants_sees_members_of_the_current_one(service: UsersService) -> None:
    ada, grace, alan = (
        await create(service, "ada"),
        await create(service, "grace"),
        await create(service, "alan", GLOBEX),
    )
    await models.Affiliation.create(user_id=ada.id, tenant_id=GLOBEX)

    assert await service.get_users(ada.id, ACME, [grace.id, alan.id], is_administrator=True) == [grace]
    assert await service.get_users(ada.id, GLOBEX, [grace.id, alan.id], is_administrator=True) == [alan]


async def test_no_user_is_visible_from_a_foreign_tenant(service: UsersService) -> None:
    ada, alan = await create(service, "ada"), await create(service, "alan", GLOBEX)

    assert await service.get_users(ada.id, GLOBEX, [ada.id, alan.id]) == [ada]
    assert await service.get_users(ada.id, None, [ada.id, alan.id]) == [ada]


async def test_mfa_enabled_is_visible_to_self_and_administrators(service: UsersService) -> None:
    ada = await service.create_user(new_user("ada").model_copy(update={"mfa_enabled": True}))
    grace = await service.create_user(new_user("grace").model_copy(update={"mfa_enabled": True}))

    async def seen(*, is_administrator: bool) -> list[bool | None]:
        users = await service.get_users(grace.id, ACME, [ada.id, grace.id], is_administrator=is_administrator)
        return [user.mfa_enabled for user in users]

    assert await seen(is_administrator=False) == [None, True]
    assert await seen(is_administrator=True) == [True, True]


async def test_unknown_ids_are_left_out(service: UsersService) -> None:
    ada = await create(service, "ada")

    assert await service.get_users(ada.id, ACME, [new_id("usr"), ACME, "", "\0", "'", "x" * 5000]) == []


async def test_tenant_change_is_undone_once(service: UsersService) -> None:
    ada = await create(service, "ada")
    change = TenantChange(key="switch-1:set_tenant", user_id=ada.id, tenant_id=GLOBEX)

    assert await service.update_user_tenant(change) == HomeTenant(user_id=ada.id, tenant_id=GLOBEX)
    assert await service.update_user_tenant(change) == HomeTenant(user_id=ada.id, tenant_id=GLOBEX)
    assert (await service.get_home_tenant(ada.id)).tenant_id == GLOBEX

    for _ in range(2):
        await service.undo_update_user_tenant("switch-1:set_tenant")
    assert (await service.get_home_tenant(ada.id)).tenant_id == ACME
    with pytest.raises(StepAlreadyUndone):
        await service.update_user_tenant(change)


async def test_undo_before_the_change_prevents_it(service: UsersService) -> None:
    ada = await create(service, "ada")
    await service.undo_update_user_tenant("switch-1:set_tenant")

    with pytest.raises(StepAlreadyUndone):
        await service.update_user_tenant(TenantChange(key="switch-1:set_tenant", user_id=ada.id, tenant_id=GLOBEX))

    assert (await service.get_home_tenant(ada.id)).tenant_id == ACME


async def test_undo_keeps_the_tenant_of_a_later_switch(service: UsersService) -> None:
    ada, third = await create(service, "ada"), new_id("ten")
    await service.update_user_tenant(TenantChange(key="switch-1", user_id=ada.id, tenant_id=GLOBEX))
    await service.update_user_tenant(TenantChange(key="switch-2", user_id=ada.id, tenant_id=third))

    await service.undo_update_user_tenant("switch-1")

    assert (await service.get_home_tenant(ada.id)).tenant_id == third


async def test_undo_keeps_the_tenant_of_a_later_switch_to_the_same_tenant(service: UsersService) -> None:
    ada = await create(service, "ada")
    for key in ("switch-1", "switch-2"):
        await service.update_user_tenant(TenantChange(key=key, user_id=ada.id, tenant_id=GLOBEX))

    await service.undo_update_user_tenant("switch-1")

    assert (await service.get_home_tenant(ada.id)).tenant_id == GLOBEX


@pytest.mark.parametrize("order", [("switch-1", "switch-2"), ("switch-2", "switch-1")])
async def test_undoing_two_switches_restores_the_first_tenant(service: UsersService, order: tuple[str, str]) -> None:
    ada = await create(service, "ada")
    for key in ("switch-1", "switch-2"):
        await service.update_user_tenant(TenantChange(key=key, user_id=ada.id, tenant_id=GLOBEX))

    for key in order:
        await service.undo_update_user_tenant(key)

    assert (await service.get_home_tenant(ada.id)).tenant_id == ACME


async def test_undoing_the_second_switch_keeps_the_first(service: UsersService) -> None:
    ada, third = await create(service, "ada"), new_id("ten")
    await service.update_user_tenant(TenantChange(key="switch-1", user_id=ada.id, tenant_id=GLOBEX))
    await service.update_user_tenant(TenantChange(key="switch-2", user_id=ada.id, tenant_id=third))

    for _ in range(2):
        await service.undo_update_user_tenant("switch-2")
    assert (await service.get_home_tenant(ada.id)).tenant_id == GLOBEX

    await service.undo_update_user_tenant("switch-1")
    assert (await service.get_home_tenant(ada.id)).tenant_id == ACME


async def test_undo_of_the_second_concurrent_switch_restores_the_first(
    postgres_database: None, shared_postgres_url: str
) -> None:
    service, third = UsersService(), new_id("ten")
    ada = await create(service, "ada")
    first = TenantChange(key="switch-1", user_id=ada.id, tenant_id=GLOBEX)
    second = TenantChange(key="switch-2", user_id=ada.id, tenant_id=third)
    async with held_row(shared_postgres_url, "users_user", "id", ada.id) as row:
        changes = [await row.queue(service.update_user_tenant(change)) for change in (first, second)]
    await asyncio.gather(*changes)

    assert (await service.get_home_tenant(ada.id)).tenant_id == third
    await service.undo_update_user_tenant("switch-2")
    assert (await service.get_home_tenant(ada.id)).tenant_id == GLOBEX


async def test_undo_that_waits_for_a_later_switch_keeps_its_tenant(
    postgres_database: None, shared_postgres_url: str
) -> None:
    service, third = UsersService(), new_id("ten")
    ada = await create(service, "ada")
    await service.update_user_tenant(TenantChange(key="switch-1", user_id=ada.id, tenant_id=GLOBEX))
    later = TenantChange(key="switch-2", user_id=ada.id, tenant_id=third)
    async with held_row(shared_postgres_url, "users_user", "id", ada.id) as row:
        tasks = [
            await row.queue(service.update_user_tenant(later)),
            await row.queue(service.undo_update_user_tenant("switch-1")),
        ]
    await asyncio.gather(*tasks)

    assert (await service.get_home_tenant(ada.id)).tenant_id == third


async def test_change_without_a_recorded_key_is_undone(service: UsersService) -> None:
    ada = await create(service, "ada")
    await service.update_user_tenant(TenantChange(key="switch-1", user_id=ada.id, tenant_id=GLOBEX))
    await models.User.filter(id=ada.id).update(tenant_change_key=None)

    await service.undo_update_user_tenant("switch-1")

    assert (await service.get_home_tenant(ada.id)).tenant_id == ACME


@pytest.mark.parametrize("user_id", ["usr_" + "f" * 32, "", "\0"])
async def test_unknown_user_has_no_home_tenant(service: UsersService, user_id: str) -> None:
    with pytest.raises(UserNotFound):
        await service.get_home_tenant(user_id)


async def test_tenant_of_an_unknown_user_cannot_be_set(service: UsersService) -> None:
    with pytest.raises(UserNotFound):
        await service.update_user_tenant(TenantChange(key="switch-1", user_id=new_id("usr"), tenant_id=GLOBEX))


async def test_preferences_start_as_defaults_and_change_field_by_field(service: UsersService) -> None:
    ada, grace = new_id("usr"), new_id("usr")
    assert await service.get_preferences(ada) == Preferences()

    await service.update_preferences(ada, PreferencesPatch(language="de-AT", theme=Theme.DARK))
    changed = await service.update_preferences(
        ada, PreferencesPatch(timezone="Europe/Vienna", email_notifications=False)
    )

    assert changed == await service.get_preferences(ada)
    assert changed == Preferences(
        language="de-AT", timezone="Europe/Vienna", theme=Theme.DARK, email_notifications=False
    )
    assert await service.update_preferences(ada, PreferencesPatch()) == changed
    assert await service.get_preferences(grace) == Preferences()


async def test_language_tag_is_stored_as_given(service: UsersService) -> None:
    for language in ("en", "de-AT", "zh-Hant-TW", "es-419", "sl-rozaj", "gsw-CH", "de-1996"):
        patched = await service.update_preferences(ADA, PreferencesPatch(language=language))
        assert patched.language == language


@pytest.mark.parametrize("language", ["", "e", "english", "de_AT", "de-", "de-A\nT", "-", "\0", "de" + "-abcde" * 10])
async def test_invalid_language_tag_is_rejected_with_its_path(language: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        await UsersService().update_preferences(ADA, PreferencesPatch(language=language))

    assert [field.path for field in refused.value.fields] == [("language",)]


@pytest.mark.parametrize(
    "timezone", ["", "Vienna", "Europe", "../../etc/passwd", "/etc/passwd", "UTC\0", "Europe/ Vienna"]
)
async def test_invalid_time_zone_is_rejected_with_its_path(timezone: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        await UsersService().update_preferences(ADA, PreferencesPatch(timezone=timezone))

    assert [field.path for field in refused.value.fields] == [("timezone",)]


async def test_all_invalid_fields_are_reported_and_nothing_is_changed(service: UsersService) -> None:
    ada = new_id("usr")

    with pytest.raises(InvalidInput) as refused:
        await service.update_preferences(
            ada, PreferencesPatch(language="?", timezone="?", theme=Theme.DARK, email_notifications=False)
        )

    assert [field.path for field in refused.value.fields] == [("language",), ("timezone",)]
    assert await service.get_preferences(ada) == Preferences()


async def test_concurrent_changes_of_different_preferences_are_all_kept(postgres_database: None) -> None:
    service, ada = UsersService(), new_id("usr")

    await asyncio.gather(
        service.update_preferences(ada, PreferencesPatch(language="fr")),
        service.update_preferences(ada, PreferencesPatch(timezone="Europe/Paris")),
        service.update_preferences(ada, PreferencesPatch(theme=Theme.LIGHT)),
        service.update_preferences(ada, PreferencesPatch(email_notifications=False)),
    )

    assert await service.get_preferences(ada) == Preferences(
        language="fr", timezone="Europe/Paris", theme=Theme.LIGHT, email_notifications=False
    )


async def test_user_creation_is_repeatable_and_can_be_undone(service: UsersService) -> None:
    new = new_user("ada")
    first = await service.create_user(new)
    await service.update_preferences(first.id, PreferencesPatch(theme=Theme.DARK))

    assert await service.create_user(new) == first
    for _ in range(2):
        await service.undo_create_user(new.key)

    for table in (models.User, models.Affiliation, models.Preferences):
        assert await table.all().count() == 0
    with pytest.raises(StepAlreadyUndone):
        await service.create_user(new)


async def test_address_belongs_to_one_user(service: UsersService) -> None:
    await create(service, "ada")

    with pytest.raises(EmailTaken):
        await service.create_user(new_user("x").model_copy(update={"email": " ADA@Example.com"}))


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"email": "ada"}, ("email",)),
        ({"email": "ada@example"}, ("email",)),
        ({"email": "a da@example.com"}, ("email",)),
        ({"email": f"ada@{'x' * 260}.com"}, ("email",)),
        ({"email": "ada\0@example.com"}, ("email",)),
        ({"name": "  "}, ("name",)),
        ({"name": "x" * 201}, ("name",)),
        ({"name": "Ada\0"}, ("name",)),
    ],
)
async def test_invalid_profile_is_rejected_with_its_path(change: dict[str, str], path: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput) as refused:
        await UsersService().create_user(new_user("ada").model_copy(update=change))

    assert [field.path for field in refused.value.fields] == [path]
