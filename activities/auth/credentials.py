"""The rules of signing in: passwords, one-time references and second factors."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta

from pydantic import JsonValue
from pyotp.totp import TOTP
from tortoise.expressions import Q

from activities.auth import models
from activities.auth.revocations import RevocationPublisher
from activities.auth.totp_encryption import UNSEALED, SecretCipher
from activities.idempotency import once, undo
from contracts.auth import (
    Credentials,
    Identity,
    MfaMethod,
    NewAuthentication,
    Redemption,
    TotpAttempt,
    VerifiedCredentials,
)
from contracts.base import Contract, utc_now
from contracts.email_addresses import email_key
from contracts.errors import EmailTaken, InvalidCredentials, InvalidMfaCode
from contracts.validation import Email, validate
from infrastructure.limits.fair_semaphore import Requester
from infrastructure.passwords import Passwords

REFERENCE_LIFETIME = timedelta(minutes=5)
REFERENCE_RETENTION = timedelta(hours=1)
"""How long an expired reference is kept, for a late retry of the step that redeemed it."""
TOTP_WINDOW = 1
"""Steps of 30 s by which a user's clock may be off, either way."""


class _SignInName(Contract):
    """What a new user signs in as."""

    email: Email


class CredentialsService:
    """The credentials of users. After a commit that ends a session, ``revocations`` publishes it to the gateways."""

    def __init__(
        self,
        passwords: Passwords,
        revocations: RevocationPublisher,
        clock: Callable[[], datetime] = utc_now,
        *,
        seal: SecretCipher = UNSEALED,
    ) -> None:
        self._passwords = passwords
        self._revocations = revocations
        self._clock = clock
        self._seal = seal

    async def verify_credentials(self, credentials: Credentials, *, client: str = "") -> VerifiedCredentials:
        """Return a one-time reference for the user of these credentials. ``client``: the digest of their network.

        Raises InvalidCredentials, whichever is wrong, and RateLimited where too many passwords wait to be checked.
        """
        key = email_key(credentials.email)
        requester = Requester(client, key)
        row = None if "\0" in key else await models.Credential.get_or_none(email_key=key)
        password = credentials.password.get_secret_value()
        right = await self._passwords.verify(row.password_hash if row else None, password, requester)
        if row is None or not right:
            raise InvalidCredentials()
        if self._passwords.is_outdated(row.password_hash):
            await models.Credential.filter(user_id=row.user_id, password_hash=row.password_hash).update(
                password_hash=await self._passwords.hash(password, requester)
            )
        now = self._clock()
        reference = secrets.token_urlsafe(32)
        await models.OneTimeReference.filter(user_id=row.user_id, expires_at__lt=now - REFERENCE_RETENTION).delete()
        await models.OneTimeReference.create(
            hash=_sha256(reference), user_id=row.user_id, expires_at=now + REFERENCE_LIFETIME
        )
        return VerifiedCredentials(reference=reference, user_id=row.user_id)

    async def redeem_reference(self, redemption: Redemption) -> Identity:
        """Return whose reference it is. Only the same key may redeem it again. Raises InvalidCredentials."""
        references = models.OneTimeReference.filter(hash=_sha256(redemption.reference))
        await references.filter(redeemed_by=None, expires_at__gt=self._clock()).update(redeemed_by=redemption.key)
        reference = await references.get_or_none(redeemed_by=redemption.key)
        credential = reference and await models.Credential.get_or_none(user_id=reference.user_id)
        if not credential:
            raise InvalidCredentials()
        return Identity(
            user_id=credential.user_id, mfa_method=MfaMethod.TOTP if credential.totp_secret is not None else None
        )

    async def check_totp(self, attempt: TotpAttempt) -> None:
        """Accept a code of this time step or a neighbouring one (RFC 6238, 5.2), each once. Raises InvalidMfaCode."""
        code = attempt.code.strip()

        async def accept() -> JsonValue:
            credential = await models.Credential.get_or_none(user_id=attempt.user_id)
            if credential is None or credential.totp_secret is None:
                raise InvalidMfaCode()
            totp = TOTP(self._seal.open(credential.totp_secret, owner=credential.user_id))
            present = int(self._clock().timestamp()) // totp.interval
            for step in range(present - TOTP_WINDOW, present + TOTP_WINDOW + 1):
                unused = models.Credential.filter(
                    Q(last_totp_step__isnull=True) | Q(last_totp_step__lt=step), user_id=attempt.user_id
                )
                if _equal(totp.generate_otp(step), code) and await unused.update(last_totp_step=step):
                    return _sha256(code)
            raise InvalidMfaCode()

        accepted = await once(models.AuthEffect, attempt.key, accept)
        if not _equal(str(accepted), _sha256(code)):
            raise InvalidMfaCode()

    async def set_up_authentication(self, new: NewAuthentication) -> None:
        """Store the credentials of a new user. Raises InvalidInput, EmailTaken."""
        email = validate(_SignInName, {"email": new.email}).email
        key = email_key(email)

        async def enter() -> JsonValue:
            if await models.Credential.exists(email_key=key):
                raise EmailTaken.at("email")
            sealed = new.totp_secret and self._seal.close(new.totp_secret, owner=new.user_id)
            await models.Credential.create(
                user_id=new.user_id,
                email=email,
                email_key=key,
                password_hash=new.password_hash,
                totp_secret=sealed,
            )
            return new.user_id

        await once(models.AuthEffect, new.key, enter)

    async def clean_up_authentication(self, key: str) -> None:
        """Undo the step: delete the user's credentials, and the sessions and references made with them. Idempotent."""
        opened: list[str] = []

        async def remove(user_id: JsonValue) -> None:
            opened.extend(row.token_hash for row in await models.Session.filter(user_id=user_id))
            for mine in (models.SignIn, models.Session, models.OneTimeReference, models.Credential):
                await mine.filter(user_id=user_id).delete()

        await undo(models.AuthEffect, key, remove)
        for token_hash in opened:
            await self._revocations.post(token_hash)


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
