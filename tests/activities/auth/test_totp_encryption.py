"""Second factors' secrets lie encrypted, each for its owner; those of earlier releases are sealed where they lie."""

import asyncio
import os
from pathlib import Path

import pytest
from pyotp.totp import TOTP
from structlog.testing import capture_logs
from tortoise.context import TortoiseContext
from tortoise.migrations import api

from activities.auth import models
from activities.auth.credentials import CredentialsService
from activities.auth.revocations import RevocationPublisher
from activities.auth.sessions import SessionsService
from activities.auth.totp_encryption import DecryptionFailed, SecretCipher, SecretReencryption
from activities.tenants.service import TenantsService
from contracts.auth import NewAuthentication, Role, SessionLookup, TotpAttempt
from contracts.base import new_id, utc_now
from infrastructure.change_notifications import LocalNotifier
from infrastructure.passwords import Passwords
from infrastructure.tasks import BackgroundTasks
from infrastructure.temporal.codec import KeyRing
from tests.activities.conftest import Clock, join
from tests.activities.locks import held_row
from worker.database import configuration, database, migrate

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
OLD, NEW = os.urandom(32), os.urandom(32)


def service_with(
    seal: SecretCipher, passwords: Passwords, revocations: RevocationPublisher, clock: Clock
) -> CredentialsService:
    return CredentialsService(passwords, revocations, clock, cipher=seal)


async def enrol(service: CredentialsService) -> str:
    user_id = new_id("usr")
    await service.set_up_authentication(
        NewAuthentication(
            key=f"{user_id}:x",
            user_id=user_id,
            email=f"{user_id}@example.com",
            password_hash="$argon2id$x",
            totp_secret=SECRET,
        )
    )
    return user_id


async def accepts(service: CredentialsService, user_id: str, clock: Clock, key: str) -> None:
    await service.check_totp(TotpAttempt(key=key, user_id=user_id, code=TOTP(SECRET).at(clock.now)))


async def test_secret_is_stored_encrypted_and_its_codes_are_accepted(
    any_database: None, passwords: Passwords, revocations: RevocationPublisher, clock: Clock
) -> None:
    service = service_with(SecretCipher(KeyRing({"a": OLD})), passwords, revocations, clock)
    user_id = await enrol(service)

    stored = await models.Credential.get(user_id=user_id)
    assert stored.totp_secret is not None
    assert stored.totp_secret.startswith("sealed:a:")
    assert SECRET not in str(await models.Credential.all().values())
    await accepts(service, user_id, clock, "login-1")


async def test_secret_decrypts_only_for_its_owner_and_with_its_key() -> None:
    seal = SecretCipher(KeyRing({"a": OLD}))
    sealed = seal.encrypt(SECRET, owner="usr_1")

    assert seal.decrypt(sealed, owner="usr_1") == SECRET
    for other, owner in (
        (seal, "usr_2"),
        (SecretCipher(KeyRing({"b": OLD})), "usr_1"),
        (SecretCipher(KeyRing({"a": NEW})), "usr_1"),
        (SecretCipher(None), "usr_1"),
    ):
        with pytest.raises(DecryptionFailed):
            other.decrypt(sealed, owner=owner)


def test_each_encryption_uses_a_new_nonce() -> None:
    seal = SecretCipher(KeyRing({"a": OLD}))

    assert len({seal.encrypt(SECRET, owner="usr_1")[: len("sealed:a:") + 16] for _ in range(100)}) == 100


async def test_concurrent_change_of_a_secret_is_not_overwritten(
    postgres_database: None,
    shared_postgres_url: str,
    passwords: Passwords,
    revocations: RevocationPublisher,
    clock: Clock,
) -> None:
    user_id = await enrol(service_with(SecretCipher(None), passwords, revocations, clock))
    async with held_row(shared_postgres_url, "auth_credential", "user_id", user_id) as row:
        sealing = await row.queue(SecretReencryption(SecretCipher(KeyRing({"a": OLD}))).reencrypt_all())
        await row.execute("UPDATE auth_credential SET totp_secret = 'another' WHERE user_id = $1", user_id)

    assert await sealing == 0
    assert (await models.Credential.get(user_id=user_id)).totp_secret == "another"


async def test_reencryption_continues_after_a_failure(
    any_database: None,
    passwords: Passwords,
    revocations: RevocationPublisher,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("activities.auth.totp_encryption._CHECK_INTERVAL_SECONDS", 0.02)
    gone, seal = SecretCipher(KeyRing({"gone": NEW})), SecretCipher(KeyRing({"a": OLD}))
    lost = await enrol(service_with(gone, passwords, revocations, clock))
    async with BackgroundTasks() as tasks, asyncio.timeout(10):
        with capture_logs() as logs:
            looking = tasks.start(SecretReencryption(seal).run(), name="seal")
            while not logs:  # noqa: ASYNC110 - a log sends no event
                await asyncio.sleep(0.01)
        assert logs[0]["event"] == "secrets_not_encrypted"
        await models.Credential.filter(user_id=lost).delete()
        user_id = await enrol(service_with(SecretCipher(None), passwords, revocations, clock))
        while not seal.is_current((await models.Credential.get(user_id=user_id)).totp_secret or ""):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert not looking.done()


async def test_plaintext_and_outdated_secrets_are_reencrypted(
    any_database: None, passwords: Passwords, revocations: RevocationPublisher, clock: Clock
) -> None:
    in_clear = await enrol(service_with(SecretCipher(None), passwords, revocations, clock))
    under_old = await enrol(service_with(SecretCipher(KeyRing({"old": OLD})), passwords, revocations, clock))
    rotated = SecretCipher(KeyRing({"new": NEW, "old": OLD}))
    service = service_with(rotated, passwords, revocations, clock)
    await accepts(service, in_clear, clock, "before")  # a new process reads them before it has sealed them

    assert await SecretReencryption(rotated).reencrypt_all() == 2
    assert await SecretReencryption(rotated).reencrypt_all() == 0

    for row in await models.Credential.all():
        assert (row.totp_secret or "").startswith("sealed:new:")
    await accepts(service, under_old, clock, "after")


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_stored_plaintext_secrets_are_encrypted_and_sessions_stay_valid(
    kind: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    passwords: Passwords,
    revocations: RevocationPublisher,
) -> None:
    url = f"sqlite://{tmp_path / 'adx.sqlite3'}" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    async with TortoiseContext():
        await api.migrate(config=configuration(url), app_labels=["auth"], target="auth.0001_initial")
    now = utc_now()
    async with TortoiseContext() as context:
        await context.init(configuration(url))
        connection = context.connections.get(kind)
        await connection.execute_script(
            "INSERT INTO auth_credential (user_id, email, password_hash, totp_secret) "
            f"VALUES ('usr_1', 'ada@example.com', '$argon2id$x', '{SECRET}'); "
            "INSERT INTO auth_session (id, user_id, tenant_id, role, token_hash, is_active, created_at, expires_at) "
            f"VALUES ('ses_1', 'usr_1', 'ten_1', '{Role.ADMIN}', '{'a' * 64}', true, "
            f"'{now.replace(year=now.year - 1).isoformat()}', '{now.replace(year=now.year + 1).isoformat()}')"
        )

    await migrate(url)

    seal = SecretCipher(KeyRing({"a": OLD}))
    async with database(url):
        await join("usr_1", "ten_1", Role.ADMIN)
        assert await SecretReencryption(seal).reencrypt_all() == 1
        service = SessionsService(revocations, memberships=TenantsService(LocalNotifier()))
        assert (await service.get_current_session(SessionLookup(token_hash="a" * 64))).id == "ses_1"
