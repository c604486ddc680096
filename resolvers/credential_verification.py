"""Verification of e-mail address and password by the auth service, with throttling of sign-in attempts."""

from __future__ import annotations

from contracts.auth import Credentials, VerifiedCredentials
from contracts.callers import Caller
from infrastructure.caching.single_flight import SingleFlight
from resolvers.clients.auth import AuthClient
from resolvers.sign_in_throttle import ClientInfo, SignInThrottle
from resolvers.tokens import credentials_digest


class CredentialVerifier:
    """Verifies credentials; simultaneous requests of the same login share one verification.

    Args:
        auth: the client of the auth service.
        throttle: limits the sign-in attempts.
        secret: the gateway's key, with which equal requests are identified.
    """

    def __init__(self, auth: AuthClient, throttle: SignInThrottle, secret: bytes) -> None:
        self._auth = auth
        self._throttle = throttle
        self._secret = secret
        self._verifications: SingleFlight[VerifiedCredentials] = SingleFlight()

    async def verify(
        self, caller: Caller, credentials: Credentials, client: ClientInfo, *, key: str | None
    ) -> VerifiedCredentials:
        """Return a one-time reference to the verified credentials, which a login redeems.

        Args:
            caller: the principal, without a user.
            credentials: e-mail address and password.
            client: network and device of the client.
            key: the login's idempotency key; without a key each request is verified separately.

        Raises:
            InvalidCredentials: the e-mail address is unknown or the password is wrong.
            TooManyAttempts: the account, network or device has made too many attempts.
            ServiceUnavailable: the auth service or the store of the attempts is unavailable.
        """
        if key is None:
            return await self._verify(caller, credentials, client)
        password = credentials.password.get_secret_value()
        digest = credentials_digest(self._secret, key, credentials.email, password)
        return await self._verifications.run(digest, lambda: self._verify(caller, credentials, client))

    async def _verify(self, caller: Caller, credentials: Credentials, client: ClientInfo) -> VerifiedCredentials:
        async with self._throttle.password_attempt(credentials.email, client):
            return await self._auth.verify_credentials(caller, credentials)
