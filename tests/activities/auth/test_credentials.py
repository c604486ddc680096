"""Passwords and one-time references: which are accepted, how often, and for how long."""

import asyncio
import statistics
import time
from datetime import timedelta

import pytest
from argon2 import PasswordHasher

from activities.auth import models
from activities.auth.credentials import CredentialsService
from activities.auth.sessions import SessionsService
from contracts.auth import Credentials, Identity, NewAuthentication, NewSession, Redemption, Role, SignIn
from contracts.base import new_id
from contracts.errors import EmailTaken, InvalidCredentials, StepAlreadyUndone
from infrastructure.passwords import Passwords
from tests.activities.auth.credential_fixtures import credentials, enrol
from tests.activities.conftest import Clock, RecordingRevocationPublisher


async def test_right_password_returns_a_redeemable_reference(
    credentials_service: CredentialsService, passwords: Passwords
) -> None:
    user_id = await enrol(credentials_service, passwords)

    verified = await credentials_service.verify_credentials(credentials())
    identity = await credentials_service.redeem_reference(Redemption(key="login-1", reference=verified.reference))

    assert verified.user_id == user_id
    assert identity == Identity(user_id=user_id, mfa_method=None)


@pytest.mark.parametrize("email", [" ADA@example.COM ", "ada@example.com"])
async def test_address_matches_in_any_equivalent_spelling(
    credentials_service: CredentialsService, passwords: Passwords, email: str
) -> None:
    user_id = await enrol(credentials_service, passwords)

    assert (await credentials_service.verify_credentials(credentials(email))).user_id == user_id


@pytest.mark.parametrize(
    "wrong",
    [
        credentials(password="wrong horse"),
        credentials(email="nobody@example.com"),
        credentials(email="ada@example.com\0"),
        credentials(email="", password=""),
    ],
)
async def test_wrong_address_and_wrong_password_raise_the_same_error(
    credentials_service: CredentialsService, passwords: Passwords, wrong: Credentials
) -> None:
    await enrol(credentials_service, passwords)

    with pytest.raises(InvalidCredentials) as refused:
        await credentials_service.verify_credentials(wrong)

    assert refused.value.message == InvalidCredentials.default_message


async def test_unknown_address_costs_as_much_cpu_time_as_a_wrong_password(
    credentials_service: CredentialsService, passwords: Passwords
) -> None:
    """In turns, and in time of the processor, so that whatever else the machine does counts for neither."""
    await enrol(credentials_service, passwords)
    taken: dict[str, list[float]] = {"ada@example.com": [], "nobody@example.com": []}
    for _ in range(9):
        for email, times in taken.items():
            before = time.process_time()
            with pytest.raises(InvalidCredentials):
                await credentials_service.verify_credentials(credentials(email, "wrong horse"))
            times.append(time.process_time() - before)

    known, unknown = (statistics.median(times) for times in taken.values())
    assert 0.75 < unknown / known < 1.33


async def test_outdated_hash_is_replaced_after_a_verification(
    credentials_service: CredentialsService, passwords: Passwords
) -> None:
    user_id = await enrol(credentials_service, passwords)
    weak = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash("correct horse")
    await models.Credential.filter(user_id=user_id).update(password_hash=weak)

    await credentials_service.verify_credentials(credentials())

    assert (await models.Credential.get(user_id=user_id)).password_hash.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    await credentials_service.verify_credentials(credentials())


async def test_reference_is_redeemed_again_only_by_the_same_step(
    credentials_service: CredentialsService, passwords: Passwords
) -> None:
    await enrol(credentials_service, passwords)
    reference = (await credentials_service.verify_credentials(credentials())).reference

    first = await credentials_service.redeem_reference(Redemption(key="login-1", reference=reference))
    again = await credentials_service.redeem_reference(Redemption(key="login-1", reference=reference))

    assert first == again
    with pytest.raises(InvalidCredentials):
        await credentials_service.redeem_reference(Redemption(key="login-2", reference=reference))


async def test_reference_expires_but_its_redemption_is_repeatable(
    credentials_service: CredentialsService, passwords: Passwords, clock: Clock
) -> None:
    await enrol(credentials_service, passwords)
    redeemed = (await credentials_service.verify_credentials(credentials())).reference
    unused = (await credentials_service.verify_credentials(credentials())).reference
    await credentials_service.redeem_reference(Redemption(key="login-1", reference=redeemed))

    clock.advance(timedelta(minutes=4, seconds=59))
    late = (await credentials_service.verify_credentials(credentials())).reference
    clock.advance(timedelta(minutes=4, seconds=59))
    await credentials_service.redeem_reference(Redemption(key="login-3", reference=late))

    await credentials_service.redeem_reference(Redemption(key="login-1", reference=redeemed))
    for reference in (unused, "made up"):
        with pytest.raises(InvalidCredentials):
            await credentials_service.redeem_reference(Redemption(key="login-2", reference=reference))


async def test_unused_reference_expires_after_exactly_five_minutes(
    credentials_service: CredentialsService, passwords: Passwords, clock: Clock
) -> None:
    await enrol(credentials_service, passwords)
    reference = (await credentials_service.verify_credentials(credentials())).reference

    clock.advance(timedelta(minutes=5))

    with pytest.raises(InvalidCredentials):
        await credentials_service.redeem_reference(Redemption(key="login", reference=reference))


async def test_redemption_is_repeatable_for_an_hour_despite_other_logins(
    credentials_service: CredentialsService, passwords: Passwords, clock: Clock
) -> None:
    await enrol(credentials_service, passwords)
    redemption = Redemption(
        key="login-1", reference=(await credentials_service.verify_credentials(credentials())).reference
    )
    await credentials_service.redeem_reference(redemption)

    clock.advance(timedelta(hours=1, minutes=5))
    await credentials_service.verify_credentials(credentials())
    await credentials_service.redeem_reference(redemption)

    clock.advance(timedelta(seconds=1))
    await credentials_service.verify_credentials(credentials())
    with pytest.raises(InvalidCredentials):
        await credentials_service.redeem_reference(redemption)


async def test_one_of_many_logins_redeems_a_reference(
    postgres_database: None, passwords: Passwords, revocations: RecordingRevocationPublisher, clock: Clock
) -> None:
    credentials_service = CredentialsService(passwords, revocations, clock)
    await enrol(credentials_service, passwords)
    reference = (await credentials_service.verify_credentials(credentials())).reference

    outcomes = await asyncio.gather(
        *(credentials_service.redeem_reference(Redemption(key=f"login-{n}", reference=reference)) for n in range(20)),
        return_exceptions=True,
    )

    assert sum(isinstance(outcome, Identity) for outcome in outcomes) == 1


async def test_neither_passwords_nor_references_are_stored(
    credentials_service: CredentialsService, passwords: Passwords
) -> None:
    await enrol(credentials_service, passwords)
    reference = (await credentials_service.verify_credentials(credentials())).reference

    stored = [*await models.Credential.all().values(), *await models.OneTimeReference.all().values()]

    assert "correct horse" not in str(stored)
    assert reference not in str(stored)


async def test_old_references_are_deleted(
    credentials_service: CredentialsService, passwords: Passwords, clock: Clock
) -> None:
    await enrol(credentials_service, passwords)
    await credentials_service.verify_credentials(credentials())

    clock.advance(timedelta(hours=2))
    await credentials_service.verify_credentials(credentials())

    assert await models.OneTimeReference.all().count() == 1


async def test_undone_set_up_frees_the_address(credentials_service: CredentialsService, passwords: Passwords) -> None:
    await enrol(credentials_service, passwords)
    await credentials_service.verify_credentials(credentials())

    for _ in range(2):
        await credentials_service.undo_set_up_authentication("user-onboarding-1:set_up_authentication")

    with pytest.raises(InvalidCredentials):
        await credentials_service.verify_credentials(credentials())
    with pytest.raises(StepAlreadyUndone):
        await enrol(credentials_service, passwords)
    assert await models.OneTimeReference.all().count() == 0


async def test_undoing_the_set_up_ends_the_users_sessions(
    credentials_service: CredentialsService,
    sessions_service: SessionsService,
    passwords: Passwords,
    revocations: RecordingRevocationPublisher,
) -> None:
    user_id = await enrol(credentials_service, passwords)
    new = NewSession(key="a", user_id=user_id, tenant_id=new_id("ten"), role=Role.MEMBER, token_hash="a" * 64)
    session = await sessions_service.create_session(new)
    await sessions_service.record_sign_in(SignIn(key="b", session_id=session.id))
    other = await sessions_service.create_session(
        new.model_copy(update={"key": "c", "user_id": new_id("usr"), "token_hash": "b" * 64})
    )

    await credentials_service.undo_set_up_authentication("user-onboarding-1:set_up_authentication")

    assert [row.id for row in await models.Session.all()] == [other.id]
    assert await models.SignIn.all().count() == 0
    assert revocations.published == {"a" * 64}


async def test_address_belongs_to_one_user(credentials_service: CredentialsService, passwords: Passwords) -> None:
    await enrol(credentials_service, passwords)

    with pytest.raises(EmailTaken):
        await credentials_service.set_up_authentication(
            NewAuthentication(
                key="user-onboarding-2:x", user_id=new_id("usr"), email="ADA@example.com", password_hash="$argon2id$x"
            )
        )
