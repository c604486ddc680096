"""The short-lived signed token that each call to a service carries: who asks, where, and what they may."""

from __future__ import annotations

import time

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey
from pydantic import ValidationError

from contracts.base import Contract
from contracts.errors import NotSignedIn

LIFETIME_SECONDS = 60
_AUDIENCE = "adx-services"


class Caller(Contract):
    """On whose behalf a call is made. ``user_id`` is None where nobody has signed in yet, as in a login.

    ``client`` and ``account`` are keyed digests of the client's network and of the account that it asks for, for shares
    and logs. They grant nothing.
    """

    user_id: str | None = None
    tenant_id: str | None = None
    permissions: tuple[str, ...] = ()
    request_id: str = ""
    client: str = ""
    account: str = ""


class CallSigner:
    """Signs and reads tokens (JWT, HS256, RFC 7519) with the key that gateway and services share (32 bytes or more)."""

    def __init__(self, key: bytes) -> None:
        self._key = OctKey.import_key(key)
        self._rules = jwt.JWTClaimsRegistry(
            aud={"essential": True, "value": _AUDIENCE}, exp={"essential": True}, leeway=5
        )

    def sign(self, caller: Caller) -> str:
        claims = {
            "aud": _AUDIENCE,
            "exp": int(time.time()) + LIFETIME_SECONDS,
            "caller": caller.model_dump(mode="json"),
        }
        return jwt.encode({"alg": "HS256"}, claims, self._key)

    def read(self, token: str) -> Caller:
        """The caller; NotSignedIn where the token is missing, forged or stale."""
        try:
            claims = jwt.decode(token, self._key, algorithms=["HS256"]).claims
            self._rules.validate(claims)
            return Caller.model_validate(claims["caller"])
        except (JoseError, ValidationError, ValueError, KeyError) as error:
            raise NotSignedIn("This call carries no valid token of a caller.") from error
