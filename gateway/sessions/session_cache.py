"""The viewer's session at the edge: where its token comes from, its hot copy, and the browser's cookie."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from pydantic import ValidationError
from starlette.requests import HTTPConnection
from starlette.responses import Response

from contracts.auth import (
    REVOCATION_TTL_SECONDS,
    REVOKED,
    SESSION_CACHE_TTL_SECONDS,
    CachedSession,
    Session,
    session_cache_key,
)
from contracts.base import utc_now
from contracts.callers import Caller
from contracts.errors import SessionEnded
from infrastructure.caching.batching import Batching
from infrastructure.caching.cache import Cache
from resolvers.clients.auth import AuthClient
from resolvers.sign_in_throttle import DEVICE_TOKEN_LIFETIME_SECONDS
from resolvers.tokens import token_hash

COOKIE = "adx_session"
LOGIN_COOKIE = "adx_login"
"""Session tokens of logins that have not completed, newest first: proof that this browser started them."""
LOGIN_COOKIE_SECONDS = 4200
"""Longer than a login can be read by its id: five minutes for the code, one hour after the close."""
_MOST_LOGINS = 4
_LOGIN_SEPARATOR = "."
DEVICE_COOKIE = "adx_device"
"""It opens nothing: see ``SignInThrottle``."""
_SECURE = "__Host-"
SECURE_COOKIE = f"{_SECURE}{COOKIE}"
"""Over TLS. No other host, and no unencrypted response, can set a cookie of such a name in a browser."""

_LONGEST_TOKEN = 200
_MAX_BATCH_SIZE = 500
_SHORTEST_COPY_SECONDS = 0.01
"""A copy that would expire sooner is not worth writing."""
_REVOKED_FOR = timedelta(seconds=REVOCATION_TTL_SECONDS)
_CLOCKS_DIFFER = timedelta(seconds=2)
"""By no more, in whatever two processes."""


class SessionCache:
    """Finds sessions: in the cache, which may be ``hot_seconds`` behind, or else at the auth service.

    A cache that only this process sees must not be behind at all (0): no change that another process makes reaches it.
    A cache that was away may come back as it was before: without a revocation, or with one that was taken back. So
    nothing that it holds from before is believed any more. ``is_lost`` is set as often as this process loses it.
    """

    def __init__(
        self,
        cache: Cache,
        auth: AuthClient,
        is_lost: asyncio.Event | None = None,
        clock: Callable[[], datetime] = utc_now,
        *,
        hot_seconds: float = SESSION_CACHE_TTL_SECONDS,
    ) -> None:
        self._cache = cache
        self._auth = auth
        self._is_lost = is_lost or asyncio.Event()
        self._clock = clock
        self._copies: Batching[str] = Batching(self._read, max_batch_size=_MAX_BATCH_SIZE, max_concurrent=2)
        self._hot = timedelta(seconds=hot_seconds)
        self._believed_from = clock() - _REVOKED_FOR - _CLOCKS_DIFFER
        self.hits = self.misses = 0

    async def find(self, token: str, *, request_id: str) -> Session | None:
        """The session that the token opens now; None where it opens none."""
        copy = await self._copies.load(session_cache_key(token_hash(token)))
        now = self._clock()
        if self._is_lost.is_set():
            self._is_lost.clear()
            self._believed_from = now + _CLOCKS_DIFFER
        if copy == REVOKED and now > self._believed_from + _REVOKED_FOR:
            return None
        if copy is not None and copy != REVOKED:
            with suppress(ValidationError):  # one that another release wrote
                hot = CachedSession.model_validate_json(copy)
                if max(self._believed_from, now - self._hot) < hot.read_at:
                    self.hits += 1
                    return _unless_expired(hot.session, now)
        self.misses += 1
        return await self.look_up(token, request_id=request_id, instead_of=copy)

    async def look_up(self, token: str, *, request_id: str, instead_of: str | None = None) -> Session | None:
        """The same by the auth service's own word, whatever the cache says; ``instead_of`` is what it says."""
        if not 0 < len(token) <= _LONGEST_TOKEN:
            return None
        hashed, read_at = token_hash(token), self._clock()
        try:
            session = await self._auth.get_current_session(Caller(request_id=request_id), hashed)
        except SessionEnded:
            return None
        await self._keep(session_cache_key(hashed), CachedSession(session=session, read_at=read_at), instead_of)
        return _unless_expired(session, self._clock())

    async def look_up_together(self, tokens: Sequence[str], *, request_id: str) -> dict[str, Session]:
        """The sessions that the tokens open by the auth service's own word, without those that open none."""
        hashes = {token_hash(token): token for token in tokens if 0 < len(token) <= _LONGEST_TOKEN}
        if not hashes:
            return {}
        found = await self._auth.get_current_sessions(Caller(request_id=request_id), tuple(hashes))
        now = self._clock()
        return {hashes[each]: session for each, session in found.items() if session.expires_at > now}

    async def _read(self, keys: Sequence[str]) -> Mapping[str, str]:
        """Of all who ask at one moment."""
        copies = await self._cache.get_many(keys)
        if copies is None:
            self._is_lost.set()
            return {}
        return copies

    async def _keep(self, key: str, hot: CachedSession, instead_of: str | None) -> None:
        """Only in place of what was there: a revocation that was posted while we looked the session up must stand."""
        seconds = (hot.read_at + self._hot - self._clock()).total_seconds()
        if seconds < _SHORTEST_COPY_SECONDS:
            return
        text = hot.model_dump_json()
        if instead_of is None:
            await self._cache.add(key, text, ttl_seconds=seconds)
        elif instead_of != REVOKED:
            await self._cache.replace(key, text, expected_value=instead_of, ttl_seconds=seconds)


class HttpSessionCookie:
    """The session cookie in the answer to a request, and the cookie of logins that have not completed.

    ``logins``: their tokens as the request brought them.
    """

    def __init__(self, response: Response, *, secure: bool, logins: tuple[str, ...] = ()) -> None:
        self._response = response
        self._secure = secure
        self._logins = logins

    def keep(self, token: str, session: Session) -> None:
        seconds = int((session.expires_at - utc_now()).total_seconds())
        self._set(token, max(0, seconds))
        if token in self._logins:
            self._keep_logins(tuple(each for each in self._logins if each != token))

    def drop(self) -> None:
        self._set("", 0)
        if self._logins:
            self._keep_logins(())

    def keep_login(self, token: str) -> None:
        self._keep_logins((token, *(each for each in self._logins if each != token)))

    def _keep_logins(self, tokens: tuple[str, ...]) -> None:
        self._logins = tokens[:_MOST_LOGINS]
        value = _LOGIN_SEPARATOR.join(self._logins)
        self._set(value, LOGIN_COOKIE_SECONDS if value else 0, plain_name=LOGIN_COOKIE)

    def keep_device(self, device: str) -> None:
        self._set(device, DEVICE_TOKEN_LIFETIME_SECONDS, plain_name=DEVICE_COOKIE)

    def _set(self, value: str, seconds: int, *, plain_name: str = COOKIE) -> None:
        name, secure = (f"{_SECURE}{plain_name}", "; Secure") if self._secure else (plain_name, "")
        cookie = f"{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}"
        self._response.headers.append("set-cookie", cookie)


class NullCookie:
    """Over a websocket there is no answer to set a cookie in."""

    def keep(self, token: str, session: Session) -> None:
        pass

    def drop(self) -> None:
        pass

    def keep_login(self, token: str) -> None:
        pass

    def keep_device(self, device: str) -> None:
        pass


def token_from_request(connection: HTTPConnection) -> str | None:
    """The token in the Authorization header, which comes first, or in the cookie.

    Over TLS only the ``__Host-`` cookie counts, which no other host can set.
    """
    cookie = connection.cookies.get(SECURE_COOKIE if is_secure(connection) else COOKIE)
    return _bearer(connection.headers.get("authorization")) or cookie or None


def login_tokens_from_request(connection: HTTPConnection, *, secure: bool) -> tuple[str, ...]:
    """The tokens in the login cookie. Over TLS only the ``__Host-`` cookie counts, which no other host can set."""
    cookie = connection.cookies.get(f"{_SECURE}{LOGIN_COOKIE}" if secure else LOGIN_COOKIE) or ""
    return tuple(each for each in cookie.split(_LOGIN_SEPARATOR, _MOST_LOGINS)[:_MOST_LOGINS] if each)


def device_from_request(connection: HTTPConnection, *, secure: bool) -> str | None:
    """What a browser's device is known by to who signs in on it."""
    return connection.cookies.get(f"{_SECURE}{DEVICE_COOKIE}" if secure else DEVICE_COOKIE)


def token_from_connection_init(payload: Mapping[str, object] | None) -> str | None:
    """The token in the ``authorization`` entry of a websocket's connection_init, with or without ``Bearer``."""
    for name, value in (payload or {}).items():
        if name.lower() == "authorization" and isinstance(value, str):
            return _bearer(value) or value.strip() or None
    return None


def is_valid_connection_init(payload: Mapping[str, object] | None) -> bool:
    """Whether its ``authorization`` and ``tenantId``, where there are any, could be a token and an id at all."""
    tenant = (payload or {}).get("tenantId")
    if not (tenant is None or (isinstance(tenant, str) and len(tenant) <= _LONGEST_TOKEN)):
        return False
    given = [value for name, value in (payload or {}).items() if name.lower() == "authorization"]
    return all(value is None or (isinstance(value, str) and len(value) <= _LONGEST_TOKEN) for value in given)


def tenant_from_request(connection: HTTPConnection) -> str | None:
    """The tenant that the client displays, by the header X-Tenant-Id. Several values that differ match no tenant."""
    given = [value.strip() for value in connection.headers.getlist("x-tenant-id")]
    if not given:
        return None
    return given[0] if len(set(given)) == 1 else ", ".join(given)


def is_secure(connection: HTTPConnection) -> bool:
    """Whether the browser came by TLS, here or at a proxy: see ``ProxyHeadersMiddleware``."""
    return connection.scope["scheme"] in ("https", "wss")


def base_url(connection: HTTPConnection) -> str:
    """The address that the client itself says it came to: fit for links in its own answers, and for nothing else."""
    return f"{'https' if is_secure(connection) else 'http'}://{connection.url.netloc}"


def _bearer(header: str | None) -> str | None:
    scheme, _, token = (header or "").strip().partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def _unless_expired(session: Session, now: datetime) -> Session | None:
    return session if session.expires_at > now else None
