"""The short-lived signed token that each call to a service carries: who asks, where, and what they may."""

from __future__ import annotations

import time

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey
from pydantic import ValidationError

from contracts.base import Contract
from contracts.errors import NotSignedIn
from contracts.secret_keys import SecretKeys

KEEP_ALIVE_SECONDS = 15.0
"""How long the gateway keeps an idle connection to a service; the service keeps it several times as long."""
LIFETIME_SECONDS = 30
MAX_LIFETIME_SECONDS = 60
"""The longest lifetime of a token that a service accepts, whatever key signed it."""
_CLOCK_SKEW_SECONDS = 5


class Caller(Contract):
    """On whose behalf a call is made. ``user_id`` is None before a user has signed in, as in a login.

    ``client`` and ``account`` are keyed digests of the client's network and of the account that it asks for, for shares
    and logs. They grant nothing.
    """

    user_id: str | None = None
    tenant_id: str | None = None
    permissions: tuple[str, ...] = ()
    request_id: str = ""
    client: str = ""
    account: str = ""


class ServiceTokenSigner:
    """Signs and verifies the tokens of calls to one service (JWT, HS256, RFC 7519).

    The ``service`` is the token's audience: the other services refuse it. ``keys`` are those that the gateway and this
    service share.
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
        now = int(time.time())
        claims = {
            "aud": self._audience,
            "iat": now,
            "exp": now + LIFETIME_SECONDS,
            "caller": caller.model_dump(mode="json"),
        }
        return jwt.encode({"alg": "HS256"}, claims, self._keys[0])

    def read(self, token: str) -> Caller:
        """Return the caller.

        Raises:
            NotSignedIn: the token is missing, forged, expired, for another service, or its lifetime is too long.
        """
        for key in self._keys:
            try:
                return self._caller(token, key)
            except (JoseError, ValidationError, ValueError, KeyError, TypeError) as error:
                refusal = error
        raise NotSignedIn("This call carries no valid token of a caller.") from refusal

    def _caller(self, token: str, key: OctKey) -> Caller:
        claims = jwt.decode(token, key, algorithms=["HS256"]).claims
        self._rules.validate(claims)
        if claims["exp"] - claims["iat"] > MAX_LIFETIME_SECONDS:
            raise ValueError("The token lives too long.")
        return Caller.model_validate(claims["caller"])
