"""Second factors: which codes are accepted, each once."""

import asyncio
from datetime import timedelta

import pytest
from pyotp.totp import TOTP

from activities.auth.credentials import CredentialsService
from contracts.auth import MfaMethod, Redemption, TotpAttempt
from contracts.errors import InvalidMfaCode
from infrastructure.passwords import Passwords
from tests.activities.auth.credential_fixtures import credentials, enrol
from tests.activities.conftest import Clock, RecordingRevocationPublisher

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


def attempt(user_id: str, code: str, key: str = "login-1:check_mfa:1") -> TotpAttempt:
    return TotpAttempt(key=key, user_id=user_id, code=code)


@pytest.mark.parametrize("seconds", [-30, 0, 30])
async def test_code_of_the_current_or_an_adjacent_time_step_is_accepted(
    credentials_service: CredentialsService, passwords: Passwords, clock: Clock, seconds: int
) -> None:
    user_id = await enrol(credentials_service, passwords, totp_secret=SECRET)

    await credentials_service.check_totp(attempt(user_id, TOTP(SECRET).at(clock.now + timedelta(seconds=seconds))))


@pytest.mark.parametrize("seconds", [-60, 60])
async def test_code_of_a_distant_time_step_is_rejected(
    credentials_service: CredentialsService, passwords: Passwords, clock: Clock, seconds: int
) -> None:
    user_id = await enrol(credentials_service, passwords, totp_secret=SECRET)

    with pytest.raises(InvalidMfaCode):
        await credentials_service.check_totp(attempt(user_id, TOTP(SECRET).at(clock.now + timedelta(seconds=seconds))))


async def test_code_is_accepted_once_and_its_result_is_repeatable(
    credentials_service: CredentialsService, passwords: Passwords, clock: Clock
) -> None:
    user_id = await enrol(credentials_service, passwords, totp_secret=SECRET)
    code = TOTP(SECRET).at(clock.now)

    await credentials_service.check_totp(attempt(user_id, code))
    await credentials_service.check_totp(attempt(user_id, code))

    with pytest.raises(InvalidMfaCode):
        await credentials_service.check_totp(attempt(user_id, code, key="login-2:check_mfa:1"))
    with pytest.raises(InvalidMfaCode):
        await credentials_service.check_totp(attempt(user_id, "000000"))


async def test_one_of_many_concurrent_attempts_with_a_code_is_accepted(
    postgres_database: None, passwords: Passwords, revocations: RecordingRevocationPublisher, clock: Clock
) -> None:
    credentials_service = CredentialsService(passwords, revocations, clock)
    user_id = await enrol(credentials_service, passwords, totp_secret=SECRET)
    code = TOTP(SECRET).at(clock.now)

    outcomes = await asyncio.gather(
        *(credentials_service.check_totp(attempt(user_id, code, key=f"login-{n}")) for n in range(20)),
        return_exceptions=True,
    )

    assert outcomes.count(None) == 1
    assert sum(isinstance(outcome, InvalidMfaCode) for outcome in outcomes) == 19


async def test_user_without_second_factor_accepts_no_code(
    credentials_service: CredentialsService, passwords: Passwords
) -> None:
    user_id = await enrol(credentials_service, passwords)

    for code in ("", "000000", "\0"):
        with pytest.raises(InvalidMfaCode):
            await credentials_service.check_totp(attempt(user_id, code))


async def test_identity_of_an_enrolled_user_has_an_mfa_method(
    credentials_service: CredentialsService, passwords: Passwords
) -> None:
    await enrol(credentials_service, passwords, totp_secret=SECRET)
    reference = (await credentials_service.verify_credentials(credentials())).reference

    identity = await credentials_service.redeem_reference(Redemption(key="login-1", reference=reference))

    assert identity.mfa_method is MfaMethod.TOTP
