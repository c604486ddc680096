"""An e-mail address is stored as it was entered and compared by its key."""

from __future__ import annotations

import asyncio

import pytest
from tortoise.exceptions import IntegrityError

from activities.auth import models as auth
from activities.auth.credentials import CredentialsService
from activities.users import models as users
from activities.users.service import UsersService
from contracts.auth import Credentials, NewAuthentication
from contracts.base import new_id, utc_now
from contracts.errors import EmailTaken, InvalidCredentials, InvalidInput
from contracts.users import NewUser
from infrastructure.passwords import Passwords
from tests.activities.conftest import Clock

PASSWORD = "correct horse"
EQUIVALENT = [
    ("Ada@Example.COM", "ada@example.com"),
    ("u@münchen.example", "u@xn--mnchen-3ya.example"),
    ("u@münchen.example", "U@MÜNCHEN.EXAMPLE"),
    ("u@münchen.example", "u@mu\u0308nchen.example"),
    ("x@straße.example", "x@xn--strae-oqa.example"),
    ("ada@example.com", "ada@\uff45\uff58\uff41\uff4d\uff50\uff4c\uff45.com"),
    ("ada@example.com", "ada@example\u3002com"),
    ("andré@example.com", "andre\u0301@example.com"),
    ("ada@example.com", " \u3000ada@example.com\u00a0\n"),
]
DIFFERENT = [
    ("x@straße.example", "x@strasse.example"),
    ("straße@example.com", "strasse@example.com"),
    ("a.b@example.com", "ab@example.com"),
    ("a+b@example.com", "a@example.com"),
]
UNDELIVERABLE = [
    "a,b@",
    "a,b@example.com",
    "(c)@example.com",
    f"a@{'x' * 64}.example",
    f"{'x' * 65}@example.com",
    "a@b@example.com",
    "a..b@example.com",
    ".a@example.com",
    '"a b"@example.com',
    "a@[192.0.2.1]",
    "a@localhost",
    "a@exa_mple.com",
    "a@-example.com",
    "a\u200bb@example.com",
    "a@exam\u200bple.com",
    "\uff41da@example.com",
    "a@example.com\0",
]


@pytest.fixture
def people(any_database: None, clock: Clock) -> UsersService:
    return UsersService(clock)


def a_user(email: str) -> NewUser:
    user_id = new_id("usr")
    return NewUser(key=user_id, user_id=user_id, email=email, name="Ada", mfa_enabled=False, tenant_id=new_id("ten"))


async def a_sign_in(passwords: Passwords, email: str, password: str = PASSWORD) -> NewAuthentication:
    user_id = new_id("usr")
    return NewAuthentication(
        key=user_id, user_id=user_id, email=email, password_hash=await passwords.hash(password), totp_secret=None
    )


def credentials(email: str, password: str = PASSWORD) -> Credentials:
    return Credentials.model_validate({"email": email, "password": password})


@pytest.mark.parametrize(
    "email", ["Ada@Example.COM", "x@straße.example", "u@MÜNCHEN.example", "u@xn--mnchen-3ya.example"]
)
async def test_address_is_stored_as_entered(
    people: UsersService, credentials_service: CredentialsService, passwords: Passwords, email: str
) -> None:
    assert (await people.create_user(a_user(f" {email} "))).email == email
    await credentials_service.set_up_authentication(await a_sign_in(passwords, f" {email} "))

    assert (await users.User.get()).email == email
    assert (await auth.Credential.get()).email == email


@pytest.mark.parametrize(("one", "other"), EQUIVALENT)
async def test_equivalent_spellings_are_one_account(
    people: UsersService, credentials_service: CredentialsService, passwords: Passwords, one: str, other: str
) -> None:
    await people.create_user(a_user(one))
    with pytest.raises(EmailTaken) as taken:
        await people.create_user(a_user(other))
    assert [field.path for field in taken.value.fields] == [("email",)]

    new = await a_sign_in(passwords, one)
    await credentials_service.set_up_authentication(new)
    with pytest.raises(EmailTaken):
        await credentials_service.set_up_authentication(await a_sign_in(passwords, other))
    for spelling in (one, other):
        assert (await credentials_service.verify_credentials(credentials(spelling))).user_id == new.user_id


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
async def test_different_mailboxes_are_two_accounts(
    people: UsersService, credentials_service: CredentialsService, passwords: Passwords, one: str, other: str
) -> None:
    for email in (one, other):
        await people.create_user(a_user(email))
        new = await a_sign_in(passwords, email, f"password of {email}")
        await credentials_service.set_up_authentication(new)
        assert (
            await credentials_service.verify_credentials(credentials(email, f"password of {email}"))
        ).user_id == new.user_id


@pytest.mark.parametrize("email", UNDELIVERABLE)
async def test_undeliverable_address_is_rejected(
    people: UsersService, credentials_service: CredentialsService, passwords: Passwords, email: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        await people.create_user(a_user(email))
    assert [field.path for field in refused.value.fields] == [("email",)]
    with pytest.raises(InvalidInput) as refused:
        await credentials_service.set_up_authentication(await a_sign_in(passwords, email))
    assert [field.path for field in refused.value.fields] == [("email",)]
    with pytest.raises(InvalidCredentials):
        await credentials_service.verify_credentials(credentials(email))
    assert not await users.User.exists()
    assert not await auth.Credential.exists()


async def test_unique_constraint_prevents_a_second_account_of_an_address(any_database: None) -> None:
    def profile(email: str) -> users.User:
        return users.User(
            id=new_id("usr"), email=email, email_key="key", name="Ada", tenant_id=new_id("ten"), created_at=utc_now()
        )

    def credential(email: str) -> auth.Credential:
        return auth.Credential(user_id=new_id("usr"), email=email, email_key="key", password_hash="-")

    await profile("ada@example.com").save()
    await credential("ada@example.com").save()
    for again in (profile("Ada@example.com"), credential("Ada@example.com")):
        with pytest.raises(IntegrityError):
            await again.save()


async def test_concurrent_equivalent_spellings_create_one_account(postgres_database: None) -> None:
    spellings = [f"{local_part}@{domain}" for local_part in ("ada", "Ada") for domain in ("münchen.de", "MÜNCHEN.de")]

    made = await asyncio.gather(
        *(UsersService().create_user(a_user(each)) for each in spellings), return_exceptions=True
    )

    assert await users.User.all().count() == 1
    assert all(isinstance(each, EmailTaken | IntegrityError) for each in made if isinstance(each, BaseException))


@pytest.mark.parametrize(
    ("set_as", "checked_as"),
    [
        ("pa\u0308ssword", "p\u00e4ssword"),
        ("correct\u00a0horse", "correct horse"),
        ("correct\u3000horse", "correct horse"),
        ("\u1112\u1161\u11ab\u1100\u1173\u11af-8", "\ud55c\uae00-8"),
    ],
)
async def test_passwords_are_compared_in_normalized_form(
    credentials_service: CredentialsService, passwords: Passwords, set_as: str, checked_as: str
) -> None:
    await credentials_service.set_up_authentication(await a_sign_in(passwords, "ada@example.com", set_as))

    await credentials_service.verify_credentials(credentials("ada@example.com", checked_as))


@pytest.mark.parametrize("password", ["P\u00e4ssword", "password ", " password", "\uff50assword", "pass\0word"])
async def test_password_is_not_trimmed_or_case_folded(
    credentials_service: CredentialsService, passwords: Passwords, password: str
) -> None:
    await credentials_service.set_up_authentication(await a_sign_in(passwords, "ada@example.com", password))

    assert await credentials_service.verify_credentials(credentials("ada@example.com", password))
    for other in ("p\u00e4ssword", "password", "PASSWORD", "pass"):
        with pytest.raises(InvalidCredentials):
            await credentials_service.verify_credentials(credentials("ada@example.com", other))
