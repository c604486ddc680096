"""Passwords, one-time references and codes: who is let in, once, and what the refused are told."""

import asyncio
import statistics
import time
from datetime import timedelta

import pytest
from argon2 import PasswordHasher
from pyotp.totp import TOTP

from activities.auth import models
from activities.auth.service import AuthService
from activities.tenants.service import TenantsService
from contracts.auth import (
    Credentials,
    Identity,
    MfaMethod,
    NewAuthentication,
    NewSession,
    Redemption,
    Role,
    SignIn,
    TotpAttempt,
)
from contracts.base import new_id
from contracts.errors import EffectUndone, EmailTaken, InvalidCredentials, InvalidMfaCode, RateLimited
from infrastructure.change_notifications import LocalWakeups
from infrastructure.fair_queue import Requester
from infrastructure.passwords import Passwords
from tests.activities.conftest import Clock, PostedRevocations

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


@pytest.fixture
def service(opened: None, passwords: Passwords, revocations: PostedRevocations, clock: Clock) -> AuthService:
    return AuthService(passwords, revocations, clock, memberships=TenantsService(LocalWakeups()))


def credentials(email: str = "ada@example.com", password: str = "correct horse") -> Credentials:
    return Credentials.model_validate({"email": email, "password": password})


async def enrol(service: AuthService, passwords: Passwords, *, totp_secret: str | None = None) -> str:
    user_id = new_id("usr")
    await service.set_up_authentication(
        NewAuthentication(
            key="user-onboarding-1:set_up_authentication",
            user_id=user_id,
            email="Ada@Example.com",
            password_hash=await passwords.hash("correct horse"),
            totp_secret=totp_secret,
        )
    )
    return user_id


async def test_the_right_password_gives_a_reference_that_a_login_redeems(
    service: AuthService, passwords: Passwords
) -> None:
    user_id = await enrol(service, passwords)

    verified = await service.verify_credentials(credentials())
    identity = await service.redeem_reference(Redemption(key="login-1", reference=verified.reference))

    assert verified.user_id == user_id
    assert identity == Identity(user_id=user_id, mfa_method=None)


@pytest.mark.parametrize("email", [" ADA@example.COM ", "ada@example.com"])
async def test_an_address_is_the_same_however_it_is_written(
    service: AuthService, passwords: Passwords, email: str
) -> None:
    user_id = await enrol(service, passwords)

    assert (await service.verify_credentials(credentials(email))).user_id == user_id


@pytest.mark.parametrize(
    "wrong",
    [
        credentials(password="wrong horse"),
        credentials(email="nobody@example.com"),
        credentials(email="ada@example.com\0"),
        credentials(email="", password=""),
    ],
)
async def test_whatever_is_wrong_gets_the_same_answer(
    service: AuthService, passwords: Passwords, wrong: Credentials
) -> None:
    await enrol(service, passwords)

    with pytest.raises(InvalidCredentials) as refused:
        await service.verify_credentials(wrong)

    assert refused.value.message == InvalidCredentials.default_message


@pytest.mark.parametrize("stored", [None, "", "!", "$argon2id$no hash"])
async def test_an_address_that_takes_no_password_costs_the_work_of_one_that_does(
    passwords: Passwords, stored: str | None
) -> None:
    known = await passwords.hash("correct horse")

    async def fastest(password_hash: str | None) -> float:
        times = []
        for _ in range(5):
            before = time.process_time()  # of all threads; others load the machine, too
            assert not await passwords.verify(password_hash, "wrong horse")
            times.append(time.process_time() - before)
        return min(times)

    assert await fastest(stored) > 0.5 * await fastest(known)


async def test_an_unknown_address_takes_the_processor_as_long_as_a_wrong_password(
    service: AuthService, passwords: Passwords
) -> None:
    """In turns, and in time of the processor, so that whatever else the machine does counts for neither."""
    await enrol(service, passwords)
    taken: dict[str, list[float]] = {"ada@example.com": [], "nobody@example.com": []}
    for _ in range(9):
        for email, times in taken.items():
            before = time.process_time()
            with pytest.raises(InvalidCredentials):
                await service.verify_credentials(credentials(email, "wrong horse"))
            times.append(time.process_time() - before)

    known, unknown = (statistics.median(times) for times in taken.values())
    assert 0.75 < unknown / known < 1.33


async def test_a_hash_with_other_parameters_is_replaced_when_its_password_is_given(
    service: AuthService, passwords: Passwords
) -> None:
    user_id = await enrol(service, passwords)
    weak = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash("correct horse")
    await models.Credential.filter(user_id=user_id).update(password_hash=weak)

    await service.verify_credentials(credentials())

    assert (await models.Credential.get(user_id=user_id)).password_hash.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    await service.verify_credentials(credentials())


async def test_hashes_are_argon2id_of_19_mib_two_passes_and_one_lane(passwords: Passwords) -> None:
    assert (await passwords.hash("correct horse")).startswith("$argon2id$v=19$m=19456,t=2,p=1$")


async def test_more_logins_than_the_queue_holds_are_told_to_come_later() -> None:
    passwords = Passwords(threads=1, waiting=2)

    outcomes = await asyncio.gather(*(passwords.verify(None, "guess") for _ in range(10)), return_exceptions=True)

    assert sum(isinstance(outcome, RateLimited) for outcome in outcomes) == 7
    assert not await passwords.verify(None, "guess")
    passwords.close()


async def test_two_passwords_are_hashed_at_a_time_and_32_wait() -> None:
    passwords = Passwords()
    asked = (passwords.verify(None, "guess", Requester(f"client {n}", f"account {n}")) for n in range(60))

    outcomes = await asyncio.gather(*asked, return_exceptions=True)

    assert outcomes.count(False) == 2 + 32
    assert sum(isinstance(outcome, RateLimited) for outcome in outcomes) == 60 - 34
    passwords.close()


async def test_one_client_has_half_of_the_threads() -> None:
    passwords = Passwords(threads=4, waiting=0)
    asked = (passwords.verify(None, "guess", Requester("mallory", f"account {n}")) for n in range(10))

    outcomes = await asyncio.gather(*asked, return_exceptions=True)

    assert outcomes.count(False) == 2
    assert sum(isinstance(outcome, RateLimited) for outcome in outcomes) == 8
    passwords.close()


async def test_a_flood_of_one_client_delays_another_by_no_more_than_the_hashes_under_way() -> None:
    passwords = Passwords(threads=2, waiting=240)
    finished: list[str] = []
    has_begun = asyncio.Event()

    async def verify(client: str, account: str) -> None:
        await passwords.verify(None, "guess", Requester(client, account))
        finished.append(client)
        if len(finished) == 2:
            has_begun.set()

    flood = [asyncio.create_task(verify("mallory", "mallory@example.com")) for _ in range(240)]
    await has_begun.wait()
    before = len(finished)
    await verify("ada", "ada@example.com")

    assert finished[before:].count("mallory") <= 3
    for task in flood:
        task.cancel()
    await asyncio.gather(*flood, return_exceptions=True)
    passwords.close()


async def test_a_caller_that_leaves_keeps_its_slot_until_its_hash_is_done() -> None:
    passwords = Passwords(threads=1, waiting=0)
    leaving = asyncio.create_task(passwords.verify(None, "guess"))
    await asyncio.sleep(0.001)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)

    with pytest.raises(RateLimited):
        await passwords.verify(None, "guess", Requester("another", "another"))
    async with asyncio.timeout(5):
        while True:
            try:
                assert not await passwords.verify(None, "guess", Requester("another", "another"))
            except RateLimited:
                await asyncio.sleep(0.01)
            else:
                break
    passwords.close()


async def test_many_callers_that_leave_keep_no_slot() -> None:
    passwords = Passwords(threads=1, waiting=5)
    for _ in range(10):
        leaving = asyncio.create_task(passwords.verify(None, "guess"))
        await asyncio.sleep(0.005)
        leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)

    assert not await passwords.verify(None, "guess")
    passwords.close()


async def test_the_event_loop_goes_on_while_passwords_are_hashed(passwords: Passwords) -> None:
    hashing = asyncio.gather(*(passwords.verify(None, "guess") for _ in range(6)))
    turns = 0
    while not hashing.done():
        await asyncio.sleep(0.001)
        turns += 1

    assert turns > 10


async def test_a_reference_is_redeemed_again_only_by_the_same_step(service: AuthService, passwords: Passwords) -> None:
    await enrol(service, passwords)
    reference = (await service.verify_credentials(credentials())).reference

    first = await service.redeem_reference(Redemption(key="login-1", reference=reference))
    again = await service.redeem_reference(Redemption(key="login-1", reference=reference))

    assert first == again
    with pytest.raises(InvalidCredentials):
        await service.redeem_reference(Redemption(key="login-2", reference=reference))


async def test_a_reference_lasts_five_minutes_but_a_lost_answer_is_still_given(
    service: AuthService, passwords: Passwords, clock: Clock
) -> None:
    await enrol(service, passwords)
    redeemed = (await service.verify_credentials(credentials())).reference
    unused = (await service.verify_credentials(credentials())).reference
    await service.redeem_reference(Redemption(key="login-1", reference=redeemed))

    clock.pass_by(timedelta(minutes=4, seconds=59))
    late = (await service.verify_credentials(credentials())).reference
    clock.pass_by(timedelta(minutes=4, seconds=59))
    await service.redeem_reference(Redemption(key="login-3", reference=late))

    await service.redeem_reference(Redemption(key="login-1", reference=redeemed))
    for reference in (unused, "made up"):
        with pytest.raises(InvalidCredentials):
            await service.redeem_reference(Redemption(key="login-2", reference=reference))


async def test_an_unused_reference_is_over_after_exactly_five_minutes(
    service: AuthService, passwords: Passwords, clock: Clock
) -> None:
    await enrol(service, passwords)
    reference = (await service.verify_credentials(credentials())).reference

    clock.pass_by(timedelta(minutes=5))

    with pytest.raises(InvalidCredentials):
        await service.redeem_reference(Redemption(key="login", reference=reference))


async def test_a_lost_answer_is_given_for_an_hour_although_others_sign_in(
    service: AuthService, passwords: Passwords, clock: Clock
) -> None:
    await enrol(service, passwords)
    redemption = Redemption(key="login-1", reference=(await service.verify_credentials(credentials())).reference)
    await service.redeem_reference(redemption)

    clock.pass_by(timedelta(hours=1, minutes=5))
    await service.verify_credentials(credentials())
    await service.redeem_reference(redemption)

    clock.pass_by(timedelta(seconds=1))
    await service.verify_credentials(credentials())
    with pytest.raises(InvalidCredentials):
        await service.redeem_reference(redemption)


async def test_only_one_of_many_logins_redeems_a_reference(
    on_postgres: None, passwords: Passwords, revocations: PostedRevocations, clock: Clock
) -> None:
    service = AuthService(passwords, revocations, clock, memberships=TenantsService(LocalWakeups()))
    await enrol(service, passwords)
    reference = (await service.verify_credentials(credentials())).reference

    outcomes = await asyncio.gather(
        *(service.redeem_reference(Redemption(key=f"login-{n}", reference=reference)) for n in range(20)),
        return_exceptions=True,
    )

    assert sum(isinstance(outcome, Identity) for outcome in outcomes) == 1


async def test_neither_passwords_nor_references_are_stored(service: AuthService, passwords: Passwords) -> None:
    await enrol(service, passwords)
    reference = (await service.verify_credentials(credentials())).reference

    stored = [*await models.Credential.all().values(), *await models.OneTimeReference.all().values()]

    assert "correct horse" not in str(stored)
    assert reference not in str(stored)


async def test_old_references_do_not_pile_up(service: AuthService, passwords: Passwords, clock: Clock) -> None:
    await enrol(service, passwords)
    await service.verify_credentials(credentials())

    clock.pass_by(timedelta(hours=2))
    await service.verify_credentials(credentials())

    assert await models.OneTimeReference.all().count() == 1


def attempt(user_id: str, code: str, key: str = "login-1:check_mfa:1") -> TotpAttempt:
    return TotpAttempt(key=key, user_id=user_id, code=code)


@pytest.mark.parametrize("seconds", [-30, 0, 30])
async def test_a_code_of_now_or_of_a_neighbouring_step_is_accepted(
    service: AuthService, passwords: Passwords, clock: Clock, seconds: int
) -> None:
    user_id = await enrol(service, passwords, totp_secret=SECRET)

    await service.check_totp(attempt(user_id, TOTP(SECRET).at(clock.now + timedelta(seconds=seconds))))


@pytest.mark.parametrize("seconds", [-60, 60])
async def test_a_code_further_off_is_refused(
    service: AuthService, passwords: Passwords, clock: Clock, seconds: int
) -> None:
    user_id = await enrol(service, passwords, totp_secret=SECRET)

    with pytest.raises(InvalidMfaCode):
        await service.check_totp(attempt(user_id, TOTP(SECRET).at(clock.now + timedelta(seconds=seconds))))


async def test_a_code_is_accepted_once_but_its_lost_answer_is_given_again(
    service: AuthService, passwords: Passwords, clock: Clock
) -> None:
    user_id = await enrol(service, passwords, totp_secret=SECRET)
    code = TOTP(SECRET).at(clock.now)

    await service.check_totp(attempt(user_id, code))
    await service.check_totp(attempt(user_id, code))

    with pytest.raises(InvalidMfaCode):
        await service.check_totp(attempt(user_id, code, key="login-2:check_mfa:1"))
    with pytest.raises(InvalidMfaCode):
        await service.check_totp(attempt(user_id, "000000"))


async def test_of_many_who_give_one_code_at_once_one_is_let_in(
    on_postgres: None, passwords: Passwords, revocations: PostedRevocations, clock: Clock
) -> None:
    service = AuthService(passwords, revocations, clock, memberships=TenantsService(LocalWakeups()))
    user_id = await enrol(service, passwords, totp_secret=SECRET)
    code = TOTP(SECRET).at(clock.now)

    outcomes = await asyncio.gather(
        *(service.check_totp(attempt(user_id, code, key=f"login-{n}")) for n in range(20)), return_exceptions=True
    )

    assert outcomes.count(None) == 1
    assert sum(isinstance(outcome, InvalidMfaCode) for outcome in outcomes) == 19


async def test_who_has_no_second_factor_passes_by_no_code(service: AuthService, passwords: Passwords) -> None:
    user_id = await enrol(service, passwords)

    for code in ("", "000000", "\0"):
        with pytest.raises(InvalidMfaCode):
            await service.check_totp(attempt(user_id, code))


async def test_who_enrolled_with_a_second_factor_is_asked_for_it(service: AuthService, passwords: Passwords) -> None:
    await enrol(service, passwords, totp_secret=SECRET)
    reference = (await service.verify_credentials(credentials())).reference

    identity = await service.redeem_reference(Redemption(key="login-1", reference=reference))

    assert identity.mfa_method is MfaMethod.TOTP


async def test_enrolling_can_be_undone_and_frees_the_address(service: AuthService, passwords: Passwords) -> None:
    await enrol(service, passwords)
    await service.verify_credentials(credentials())

    for _ in range(2):
        await service.clean_up_authentication("user-onboarding-1:set_up_authentication")

    with pytest.raises(InvalidCredentials):
        await service.verify_credentials(credentials())
    with pytest.raises(EffectUndone):
        await enrol(service, passwords)
    assert await models.OneTimeReference.all().count() == 0


async def test_undoing_it_ends_what_the_user_opened_meanwhile(
    service: AuthService, passwords: Passwords, revocations: PostedRevocations
) -> None:
    user_id = await enrol(service, passwords)
    new = NewSession(key="a", user_id=user_id, tenant_id=new_id("ten"), role=Role.MEMBER, token_hash="a" * 64)
    session = await service.create_session(new)
    await service.record_sign_in(SignIn(key="b", session_id=session.id))
    other = await service.create_session(
        new.model_copy(update={"key": "c", "user_id": new_id("usr"), "token_hash": "b" * 64})
    )

    await service.clean_up_authentication("user-onboarding-1:set_up_authentication")

    assert [row.id for row in await models.Session.all()] == [other.id]
    assert await models.SignIn.all().count() == 0
    assert revocations.posted == {"a" * 64}


async def test_an_address_belongs_to_one_user(service: AuthService, passwords: Passwords) -> None:
    await enrol(service, passwords)

    with pytest.raises(EmailTaken):
        await service.set_up_authentication(
            NewAuthentication(
                key="user-onboarding-2:x", user_id=new_id("usr"), email="ADA@example.com", password_hash="$argon2id$x"
            )
        )
