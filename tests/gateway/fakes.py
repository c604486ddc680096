"""Fake services behind the gateway, which record every call, and factories of their data."""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx
from pydantic import BaseModel

from contracts.auth import Role, Session, SessionMatch, VerifiedCredentials
from contracts.base import utc_now
from contracts.callers import Caller
from contracts.errors import DomainError, InvalidCredentials, SessionEnded, SessionNotFound, to_record
from contracts.files import AccessLevel, File, FilePage
from contracts.tenants import SubscriptionTier, Tenant
from contracts.users import Preferences, User
from gateway.settings import FeatureVisibility, Settings
from infrastructure.signing.secret_keys import SecretKeys
from infrastructure.signing.service_tokens import ServiceTokenSigner
from resolvers.tokens import token_hash
from tests.gateway.record import MemoryRecord

KEY = "k" * 32
TOKEN = "ada-s-token"
ADA, GRACE = "usr_" + "a" * 32, "usr_" + "b" * 32
FILE = "fil_" + "a" * 32
ACME, GLOBEX = "ten_" + "a" * 32, "ten_" + "b" * 32

ResponseBody = BaseModel | list[Any] | None
Handler = Callable[[Caller, dict[str, Any]], ResponseBody | Awaitable[ResponseBody]]


@dataclass
class FakeServices:
    """Fake HTTP services behind one transport; they record every call.

    Each verb, such as ``auth/list_sessions``, has a handler. A test replaces a handler to change the response.
    """

    handlers: dict[str, Handler] = field(default_factory=dict)
    calls: list[tuple[str, Caller, dict[str, Any]]] = field(default_factory=list)
    record: MemoryRecord = field(default_factory=MemoryRecord)

    def __post_init__(self) -> None:
        self._keys = SecretKeys(KEY.encode())
        batched: dict[str, Handler] = {"auth/get_current_sessions": self._find_each}
        self.handlers = default_handlers() | self.record.handlers() | batched | self.handlers

    @property
    def transport(self) -> httpx.MockTransport:
        """Transport that passes each request to the handler of its verb."""
        return httpx.MockTransport(self._respond)

    def requests_to(self, verb: str) -> list[dict[str, Any]]:
        """Return the bodies of all requests to this verb, in order."""
        return [body for name, _, body in self.calls if name == verb]

    async def _find_each(self, caller: Caller, body: dict[str, Any]) -> list[Any]:
        """Look up each token hash with the handler for a single session."""
        found = []
        for each in body["token_hashes"]:
            with suppress(SessionEnded):
                one = self.handlers["auth/get_current_session"](caller, {"token_hash": each})
                response = await one if inspect.isawaitable(one) else one
                assert isinstance(response, Session)
                found.append(SessionMatch(token_hash=each, session=response))
        return found

    async def _respond(self, request: httpx.Request) -> httpx.Response:
        verb, body = request.url.path.strip("/"), json.loads(request.content)
        signer = ServiceTokenSigner(verb.partition("/")[0], self._keys)
        caller = signer.read(request.headers["authorization"].removeprefix("Bearer "))
        self.calls.append((verb, caller, body))
        try:
            response = self.handlers[verb](caller, body)
            if inspect.isawaitable(response):
                response = await response
        except DomainError as error:
            return httpx.Response(error.http_status, json=to_record(error).model_dump(mode="json"))
        return httpx.Response(200, content=json.dumps(_as_json(response)))


def default_handlers() -> dict[str, Handler]:
    """Return handlers for Ada, an administrator of Acme with one session, and for Grace, whom Ada may see."""
    all_users = {each: make_user(each) for each in (ADA, GRACE)}
    all_tenants = {ACME: tenant(ACME, "Acme"), GLOBEX: tenant(GLOBEX, "Globex")}
    return {
        "auth/verify_credentials": _verify,
        "auth/get_current_session": _find_session,
        "auth/list_sessions": lambda caller, body: [session()],
        "auth/revoke_session": _revoke,
        "auth/end_session": lambda caller, body: None,
        "users/get_users": lambda caller, body: [all_users[each] for each in body["ids"] if each in all_users],
        "users/get_preferences": lambda caller, body: Preferences(),
        "users/update_preferences": lambda caller, body: Preferences.model_validate(
            {name: value for name, value in body.items() if value is not None}
        ),
        "tenants/get_tenants": lambda caller, body: [all_tenants[each] for each in body["ids"] if each in all_tenants],
        "files/reserve_upload": lambda caller, body: None,
        "files/list_files": lambda caller, body: FilePage(files=(file(),), has_next_page=False, total_count=1),
        "tenants/list_tenants": lambda caller, body: list(all_tenants.values()),
    }


def settings(temporal_address: str, **overrides: Any) -> Settings:
    """Return gateway settings without response traces, so that tests can compare whole responses."""
    values = {"response_trace": FeatureVisibility.OFF} | overrides
    return Settings(secret_key=KEY, service_key=KEY, temporal_address=temporal_address, **values)


def error_extensions(error: dict[str, Any]) -> dict[str, Any]:
    """Return the extensions of a GraphQL error without its request id, which must be present."""
    details = dict(error["extensions"])
    assert details.pop("requestId")
    return details


def session(session_id: str = "ses_" + "a" * 32, *, user_id: str = ADA, hours: float = 24) -> Session:
    """Return a session of an administrator of Acme."""
    now = utc_now()
    return Session(
        id=session_id,
        user_id=user_id,
        tenant_id=ACME,
        role=Role.ADMIN,
        permissions=("files:write", "operations:administer", "tenant:read", "users:onboard"),
        created_at=now,
        expires_at=now + timedelta(hours=hours),
    )


def make_user(user_id: str) -> User:
    """Return a user without a second factor."""
    return User(id=user_id, email=f"{user_id}@example.com", name="Ada", mfa_enabled=False, created_at=utc_now())


def tenant(tenant_id: str, name: str) -> Tenant:
    """Return a tenant of the free tier, in which the user is an administrator."""
    tier = SubscriptionTier.FREE
    return Tenant(id=tenant_id, name=name, slug=name.lower(), subscription_tier=tier, feature_flags=(), role=Role.ADMIN)


def file(file_id: str = FILE, *, owner_id: str = GRACE) -> File:
    """Return a file of Acme that all members may read."""
    return File(
        id=file_id,
        tenant_id=ACME,
        owner_id=owner_id,
        name="notes.txt",
        content_type="text/plain",
        size=5,
        checksum="c" * 64,
        access_level=AccessLevel.TENANT,
        uploaded_at=utc_now(),
        download_url="/downloads/token",
    )


def _verify(caller: Caller, body: dict[str, Any]) -> VerifiedCredentials:
    if body["password"] != "right":
        raise InvalidCredentials()
    return VerifiedCredentials(reference="ref", user_id=ADA)


def _find_session(caller: Caller, body: dict[str, Any]) -> Session:
    if body["token_hash"] != token_hash(TOKEN):
        raise SessionEnded()
    return session()


def _revoke(caller: Caller, body: dict[str, Any]) -> None:
    if body["session_id"] != session().id:
        raise SessionNotFound()


def _as_json(response: ResponseBody) -> Any:
    if isinstance(response, list):
        return [each.model_dump(mode="json") for each in response]
    return None if response is None else response.model_dump(mode="json")
