"""The cookies of a browser: session token, tokens of logins in progress, and device id."""

from __future__ import annotations

from starlette.requests import HTTPConnection
from starlette.responses import Response

from contracts.auth import Session
from contracts.base import utc_now
from resolvers.sign_in_throttle import DEVICE_TOKEN_LIFETIME_SECONDS

COOKIE = "adx_session"
"""Name of the session cookie over plain HTTP."""
LOGIN_COOKIE = "adx_login"
"""Name of the cookie with the tokens of logins that have not completed, newest first.

The cookie proves that this browser started the logins.
"""
LOGIN_COOKIE_SECONDS = 4200
"""Lifetime of the login cookie: longer than a login can be read by its id, which is five minutes for entering the
second factor and one hour after the login has closed.
"""
DEVICE_COOKIE = "adx_device"
"""Name of the cookie with the device id, which grants no access: see ``SignInThrottle``."""
_HOST_PREFIX = "__Host-"
SECURE_COOKIE = f"{_HOST_PREFIX}{COOKIE}"
"""Name of the session cookie over TLS. A browser accepts a cookie with this prefix from no other host and from no
unencrypted response.
"""

_MAX_LOGINS = 4
_LOGIN_SEPARATOR = "."


class HttpSessionCookie:
    """Sets the session, login and device cookies in the response to one HTTP request.

    Args:
        response: the response that receives the ``Set-Cookie`` headers.
        secure: whether the client uses TLS.
        logins: the tokens in the login cookie of the request.
    """

    def __init__(self, response: Response, *, secure: bool, logins: tuple[str, ...] = ()) -> None:
        self._response = response
        self._secure = secure
        self._logins = logins

    def set_session(self, token: str, session: Session) -> None:
        """Set the session cookie until the session expires, and remove the token from the login cookie."""
        seconds = int((session.expires_at - utc_now()).total_seconds())
        self._set(token, max(0, seconds))
        if token in self._logins:
            self._set_logins(tuple(each for each in self._logins if each != token))

    def clear(self) -> None:
        """Delete the session cookie and the login cookie."""
        self._set("", 0)
        if self._logins:
            self._set_logins(())

    def set_login(self, token: str) -> None:
        """Add the token of a login in progress to the login cookie."""
        self._set_logins((token, *(each for each in self._logins if each != token)))

    def set_device(self, device: str) -> None:
        """Set the device cookie."""
        self._set(device, DEVICE_TOKEN_LIFETIME_SECONDS, plain_name=DEVICE_COOKIE)

    def _set_logins(self, tokens: tuple[str, ...]) -> None:
        self._logins = tokens[:_MAX_LOGINS]
        value = _LOGIN_SEPARATOR.join(self._logins)
        self._set(value, LOGIN_COOKIE_SECONDS if value else 0, plain_name=LOGIN_COOKIE)

    def _set(self, value: str, seconds: int, *, plain_name: str = COOKIE) -> None:
        name, secure = (f"{_HOST_PREFIX}{plain_name}", "; Secure") if self._secure else (plain_name, "")
        cookie = f"{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}"
        self._response.headers.append("set-cookie", cookie)


class NullCookie:
    """A session cookie that ignores all calls: a websocket has no response that could set a cookie."""

    def set_session(self, token: str, session: Session) -> None:
        pass

    def clear(self) -> None:
        pass

    def set_login(self, token: str) -> None:
        pass

    def set_device(self, device: str) -> None:
        pass


def login_tokens_from_request(connection: HTTPConnection, *, secure: bool) -> tuple[str, ...]:
    """Return the tokens in the login cookie, newest first.

    Over TLS (``secure``) only the ``__Host-`` cookie is read, because other hosts can set the plain one.
    """
    cookie = connection.cookies.get(f"{_HOST_PREFIX}{LOGIN_COOKIE}" if secure else LOGIN_COOKIE) or ""
    return tuple(each for each in cookie.split(_LOGIN_SEPARATOR, _MAX_LOGINS)[:_MAX_LOGINS] if each)


def device_from_request(connection: HTTPConnection, *, secure: bool) -> str | None:
    """Return the device id in the device cookie; None if the request has no such cookie."""
    return connection.cookies.get(f"{_HOST_PREFIX}{DEVICE_COOKIE}" if secure else DEVICE_COOKIE)
