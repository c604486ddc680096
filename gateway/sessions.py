"""The viewer's session at the edge: where its token comes from, its hot copy, and the browser's cookie."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

import structlog
from aiocache.base import BaseCache
from pydantic import ValidationError
from redis.exceptions import RedisError
from starlette.requests import HTTPConnection
from starlette.responses import Response

from contracts.auth import HOT_SESSION_SECONDS, REVOKED, Session, hot_session_key
from contracts.base import utc_now
from contracts.calls import Caller
from contracts.errors import SessionEnded
from resolvers.clients.auth import AuthClient
from resolvers.throttle import DEVICE_SECONDS
from resolvers.tokens import token_hash

COOKIE = "adx_session"
DEVICE_COOKIE = "adx_device"
"""It opens nothing: see ``SignInThrottle``."""
_SECURE = "__Host-"
SECURE_COOKIE = f"{_SECURE}{COOKIE}"
"""Over TLS. No other host, and nobody on the way in clear, can set a cookie of such a name in a browser."""

_LONGEST_TOKEN = 200
_CACHE_IS_DOWN = (RedisError, OSError, asyncio.TimeoutError)

log = structlog.get_logger()


class HotSessions:
    """Finds sessions: in the cache, which is right for up to thirty seconds, or else at the auth service."""

    def __init__(self, cache: BaseCache, auth: AuthClient) -> None:
        self._cache = cache
        self._auth = auth

    async def find(self, token: str, *, request_id: str) -> Session | None:
        """The session that the token opens now; None where it opens none."""
        copy = await self._read(hot_session_key(token_hash(token)))
        if copy == REVOKED:
            return None
        if copy is not None:
            with suppress(ValidationError):  # one that another release wrote
                return _unless_expired(Session.model_validate_json(copy))
        return await self.look_up(token, request_id=request_id)

    async def look_up(self, token: str, *, request_id: str) -> Session | None:
        """The same by the auth service's own word, whatever the cache says."""
        if not 0 < len(token) <= _LONGEST_TOKEN:
            return None
        hashed = token_hash(token)
        try:
            session = await self._auth.current_session(Caller(request_id=request_id), hashed)
        except SessionEnded:
            return None
        await self._keep(hot_session_key(hashed), session)
        return _unless_expired(session)

    async def _read(self, key: str) -> str | None:
        try:
            copy: str | None = await self._cache.get(key)
        except _CACHE_IS_DOWN as error:
            log.warning("the cache does not answer", error=repr(error))
            return None
        return copy

    async def _keep(self, key: str, session: Session) -> None:
        """Only where nothing is: a revocation that was posted while we looked the session up must stand."""
        with suppress(ValueError, *_CACHE_IS_DOWN):
            await self._cache.add(key, session.model_dump_json(), ttl=HOT_SESSION_SECONDS)


class ResponseCookie:
    """The session cookie in the answer to a request."""

    def __init__(self, response: Response, *, secure: bool) -> None:
        self._response = response
        self._secure = secure

    def keep(self, token: str, session: Session) -> None:
        seconds = int((session.expires_at - utc_now()).total_seconds())
        self._set(token, max(0, seconds))

    def drop(self) -> None:
        self._set("", 0)

    def keep_device(self, device: str) -> None:
        self._set(device, DEVICE_SECONDS, plain_name=DEVICE_COOKIE)

    def _set(self, value: str, seconds: int, *, plain_name: str = COOKIE) -> None:
        name, secure = (f"{_SECURE}{plain_name}", "; Secure") if self._secure else (plain_name, "")
        cookie = f"{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}"
        self._response.headers.append("set-cookie", cookie)


class NoCookie:
    """Over a websocket there is no answer to set a cookie in."""

    def keep(self, token: str, session: Session) -> None:
        pass

    def drop(self) -> None:
        pass

    def keep_device(self, device: str) -> None:
        pass


def presented_token(connection: HTTPConnection) -> str | None:
    """The token in the Authorization header, which comes first, or in the cookie.

    Over TLS only the cookie counts that nobody else can have set.
    """
    cookie = connection.cookies.get(SECURE_COOKIE if is_secure(connection) else COOKIE)
    return _bearer(connection.headers.get("authorization")) or cookie or None


def presented_device(connection: HTTPConnection, *, secure: bool) -> str | None:
    """What a browser's device is known by to who signs in on it."""
    return connection.cookies.get(f"{_SECURE}{DEVICE_COOKIE}" if secure else DEVICE_COOKIE)


def introduced_token(payload: Mapping[str, object] | None) -> str | None:
    """The token in the ``authorization`` entry of a websocket's connection_init, with or without ``Bearer``."""
    for name, value in (payload or {}).items():
        if name.lower() == "authorization" and isinstance(value, str):
            return _bearer(value) or value.strip() or None
    return None


def is_introduction(payload: Mapping[str, object] | None) -> bool:
    """Whether its ``authorization``, where there is one, could be a token at all."""
    given = [value for name, value in (payload or {}).items() if name.lower() == "authorization"]
    return all(value is None or (isinstance(value, str) and len(value) <= _LONGEST_TOKEN) for value in given)


def is_secure(connection: HTTPConnection) -> bool:
    """Whether the browser came by TLS, here or at a proxy: see ``Arrivals``."""
    return connection.scope["scheme"] in ("https", "wss")


def reached_at(connection: HTTPConnection) -> str:
    """The address that the client itself says it came to: fit for links in its own answers, and for nothing else."""
    return f"{'https' if is_secure(connection) else 'http'}://{connection.url.netloc}"


def _bearer(header: str | None) -> str | None:
    scheme, _, token = (header or "").strip().partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def _unless_expired(session: Session) -> Session | None:
    return session if session.expires_at > utc_now() else None
