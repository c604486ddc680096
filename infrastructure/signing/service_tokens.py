"""Service tokens: short-lived signed tokens that identify the caller (user, tenant, permissions) to a service."""

from __future__ import annotations

import time

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey
from pydantic import ValidationError

from contracts.callers import Caller
from contracts.errors import NotSignedIn
from infrastructure.signing.secret_keys import SecretKeys

KEEP_ALIVE_SECONDS = 15.0
"""Time for which the gateway keeps an idle connection to a service; services keep it several times longer."""
LIFETIME_SECONDS = 30
MAX_LIFETIME_SECONDS = 60
"""The maximum lifetime of a token that a service accepts."""
_CLOCK_SKEW_SECONDS = 5


class ServiceTokenSigner:
    """Signs and verifies the tokens of calls to one service (JWT, HS256, RFC 7519).

    Args:
        service: The audience of the tokens; other services refuse them.
        keys: The keys that the gateway shares with this service.
    """

    def __init__(self, service: str, keys: SecretKeys) -> None:
        self._audience = f"adx-{service}"
        self._keys = [OctKey.import_key(key) for key in keys.all]
        self._rules = jwt.JWTClaimsRegistry(
            aud={"essential": True, "value": self._audience},
            iat={"essential": True},
            exp={"essential": True},
            leeway=_CLOCK_SKEW_SECONDS,
        )

    def sign(self, caller: Caller) -> str:
        """Return a token for the caller that is valid for ``LIFETIME_SECONDS``."""
        now = int(time.time())
        claims = {
            "aud": self._audience,
            "iat": now,
            "exp": now + LIFETIME_SECONDS,
            "caller": caller.model_dump(mode="json"),
        }
        return jwt.encode({"alg": "HS256"}, claims, self._keys[0])

    def read(self, token: str) -> Caller:
        """Verify the token and return the caller.

        Raises:
            NotSignedIn: The token is missing, forged, expired or for another service, or its lifetime is too long.
        """
        for key in self._keys:
            try:
                return self._caller(token, key)
            except (JoseError, ValidationError, ValueError, KeyError, TypeError) as error:
                refusal = error
        raise NotSignedIn("The call has no valid service token.") from refusal

    def _caller(self, token: str, key: OctKey) -> Caller:
        claims = jwt.decode(token, key, algorithms=["HS256"]).claims
        self._rules.validate(claims)
        if claims["exp"] - claims["iat"] > MAX_LIFETIME_SECONDS:
            raise ValueError("The token lives too long.")
        return Caller.model_validate(claims["caller"])
