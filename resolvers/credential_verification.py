"""What a user types to sign in: looked at by the auth service, once for a login that is sent many times at once."""

from __future__ import annotations

from contracts.auth import Credentials, VerifiedCredentials
from contracts.service_tokens import Caller
from infrastructure.caching.single_flight import SingleFlight
from resolvers.clients.auth import AuthClient
from resolvers.sign_in_throttle import ClientInfo, SignInThrottle
from resolvers.tokens import credentials_digest


class CredentialChecks:
    """One a process. ``secret`` is the edge's key."""

    def __init__(self, auth: AuthClient, throttle: SignInThrottle, secret: bytes) -> None:
        self._auth = auth
        self._throttle = throttle
        self._secret = secret
        self._checks: SingleFlight[VerifiedCredentials] = SingleFlight()

    async def verify(
        self, caller: Caller, credentials: Credentials, client: ClientInfo, *, key: str | None
    ) -> VerifiedCredentials:
        """The auth service's word; ``key`` is the login's idempotency key.

        InvalidCredentials, RateLimited, and ServiceUnavailable where tries cannot be counted.
        """
        if key is None:
            return await self._try(caller, credentials, client)
        password = credentials.password.get_secret_value()
        digest = credentials_digest(self._secret, key, credentials.email, password)
        return await self._checks.run(digest, lambda: self._try(caller, credentials, client))

    async def _try(self, caller: Caller, credentials: Credentials, client: ClientInfo) -> VerifiedCredentials:
        async with self._throttle.trying_password(credentials.email, client):
            return await self._auth.verify_credentials(caller, credentials)
