"""The credentials service: verification of passwords and second factors, and one-time references for logins."""

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
from activities.auth.totp_encryption import PLAINTEXT, SecretCipher
from activities.idempotency import run_once, undo_once
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
"""Time for which an expired reference is kept, for a late retry of the step that redeemed it."""
TOTP_WINDOW = 1
"""Accepted deviation of a user's clock, in time steps of 30 seconds, in both directions."""


class _SignInName(Contract):
    """The validated e-mail address with which a new user signs in."""

    email: Email


class CredentialsService:
    """Verifies and stores the credentials of users.

    Args:
        passwords: hashes and verifies passwords.
        revocations: notifies the gateways of sessions that were deleted, after the commit.
        clock: returns the current time.
        cipher: encrypts the secrets of second factors.
    """

    def __init__(
        self,
        passwords: Passwords,
        revocations: RevocationPublisher,
        clock: Callable[[], datetime] = utc_now,
        *,
        cipher: SecretCipher = PLAINTEXT,
    ) -> None:
        self._passwords = passwords
        self._revocations = revocations
        self._clock = clock
        self._cipher = cipher

    async def verify_credentials(self, credentials: Credentials, *, client: str = "") -> VerifiedCredentials:
        """Return a one-time reference for the user with these credentials.

        Args:
            credentials: the e-mail address and the password that a user has entered.
            client: digest of the client's network, so that one client's attempts do not delay those of others.

        Raises:
            InvalidCredentials: the address is unknown or the password is wrong.
            RateLimited: too many passwords wait for their verification.
        """
        key = email_key(credentials.email)
        requester = Requester(client, key)
        row = None if "\0" in key else await models.Credential.get_or_none(email_key=key)
        password = credentials.password.get_secret_value()
        is_right = await self._passwords.verify(row.password_hash if row else None, password, requester)
        if row is None or not is_right:
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
        """Redeem a one-time reference and return its user. The same idempotency key may redeem it repeatedly.

        Raises:
            InvalidCredentials: the reference is unknown, has expired, or was redeemed under another key.
        """
        references = models.OneTimeReference.filter(hash=_sha256(redemption.reference))
        await references.filter(redeemed_by_step=None, expires_at__gt=self._clock()).update(
            redeemed_by_step=redemption.key
        )
        reference = await references.get_or_none(redeemed_by_step=redemption.key)
        credential = reference and await models.Credential.get_or_none(user_id=reference.user_id)
        if not credential:
            raise InvalidCredentials()
        return Identity(
            user_id=credential.user_id, mfa_method=MfaMethod.TOTP if credential.totp_secret is not None else None
        )

    async def check_totp(self, attempt: TotpAttempt) -> None:
        """Accept a TOTP code of the current time step or an adjacent one (RFC 6238, 5.2); each code is accepted once.

        Raises:
            InvalidMfaCode: the code is wrong, or was accepted before.
        """
        code = attempt.code.strip()

        async def accept() -> JsonValue:
            credential = await models.Credential.get_or_none(user_id=attempt.user_id)
            if credential is None or credential.totp_secret is None:
                raise InvalidMfaCode()
            totp = TOTP(self._cipher.decrypt(credential.totp_secret, owner=credential.user_id))
            current = int(self._clock().timestamp()) // totp.interval
            for step in range(current - TOTP_WINDOW, current + TOTP_WINDOW + 1):
                unused = models.Credential.filter(
                    Q(last_totp_step__isnull=True) | Q(last_totp_step__lt=step), user_id=attempt.user_id
                )
                if _equal(totp.generate_otp(step), code) and await unused.update(last_totp_step=step):
                    return _sha256(code)
            raise InvalidMfaCode()

        accepted = await run_once(models.AuthIdempotencyRecord, attempt.key, accept)
        if not _equal(str(accepted), _sha256(code)):
            raise InvalidMfaCode()

    async def set_up_authentication(self, new: NewAuthentication) -> None:
        """Store the credentials of a new user.

        Raises:
            InvalidInput: the e-mail address is not valid.
            EmailTaken: another user has an equivalent e-mail address.
        """
        email = validate(_SignInName, {"email": new.email}).email
        key = email_key(email)

        async def create() -> JsonValue:
            if await models.Credential.exists(email_key=key):
                raise EmailTaken.for_field("email")
            encrypted = new.totp_secret and self._cipher.encrypt(new.totp_secret, owner=new.user_id)
            await models.Credential.create(
                user_id=new.user_id,
                email=email,
                email_key=key,
                password_hash=new.password_hash,
                totp_secret=encrypted,
            )
            return new.user_id

        await run_once(models.AuthIdempotencyRecord, new.key, create)

    async def undo_set_up_authentication(self, key: str) -> None:
        """Delete the user's credentials, and the sessions, sign-ins and references created with them."""
        token_hashes: list[str] = []

        async def delete(user_id: JsonValue) -> None:
            token_hashes.extend(row.token_hash for row in await models.Session.filter(user_id=user_id))
            for table in (models.SignIn, models.Session, models.OneTimeReference, models.Credential):
                await table.filter(user_id=user_id).delete()

        await undo_once(models.AuthIdempotencyRecord, key, delete)
        for token_hash in token_hashes:
            await self._revocations.publish(token_hash)


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
