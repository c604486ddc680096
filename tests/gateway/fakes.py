"""Services that answer from a script, and what the gateway asked of them."""

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

Answer = BaseModel | list[Any] | None
Handler = Callable[[Caller, dict[str, Any]], Answer | Awaitable[Answer]]


@dataclass
class Services:
    """All services behind one transport. For another answer a test replaces a handler, as "auth/list_sessions"."""

    handlers: dict[str, Handler] = field(default_factory=dict)
    calls: list[tuple[str, Caller, dict[str, Any]]] = field(default_factory=list)
    record: MemoryRecord = field(default_factory=MemoryRecord)

    def __post_init__(self) -> None:
        self._keys = SecretKeys(KEY.encode())
        together: dict[str, Handler] = {"auth/get_current_sessions": self._find_together}
        self.handlers = usual_answers() | self.record.handlers() | together | self.handlers

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self._answer)

    def asked(self, verb: str) -> list[dict[str, Any]]:
        return [body for name, _, body in self.calls if name == verb]

    async def _find_together(self, caller: Caller, body: dict[str, Any]) -> list[Any]:
        """Each as the handler of one alone says."""
        found = []
        for each in body["token_hashes"]:
            with suppress(SessionEnded):
                one = self.handlers["auth/get_current_session"](caller, {"token_hash": each})
                answer = await one if inspect.isawaitable(one) else one
                assert isinstance(answer, Session)
                found.append(SessionMatch(token_hash=each, session=answer))
        return found

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        verb, body = request.url.path.strip("/"), json.loads(request.content)
        signer = ServiceTokenSigner(verb.partition("/")[0], self._keys)
        caller = signer.read(request.headers["authorization"].removeprefix("Bearer "))
        self.calls.append((verb, caller, body))
        try:
            answer = self.handlers[verb](caller, body)
            if inspect.isawaitable(answer):
                answer = await answer
        except DomainError as error:
            return httpx.Response(error.http_status, json=to_record(error).model_dump(mode="json"))
        return httpx.Response(200, content=json.dumps(_as_json(answer)))


def usual_answers() -> dict[str, Handler]:
    """Ada, an administrator of Acme, with one session; Grace, whom she sees."""
    people = {each: person(each) for each in (ADA, GRACE)}
    places = {ACME: tenant(ACME, "Acme"), GLOBEX: tenant(GLOBEX, "Globex")}
    return {
        "auth/verify_credentials": _verify,
        "auth/get_current_session": _find_session,
        "auth/list_sessions": lambda caller, body: [session()],
        "auth/revoke_session": _revoke,
        "auth/end_session": lambda caller, body: None,
        "users/get_users": lambda caller, body: [people[each] for each in body["ids"] if each in people],
        "users/get_preferences": lambda caller, body: Preferences(),
        "users/update_preferences": lambda caller, body: Preferences.model_validate(
            {name: value for name, value in body.items() if value is not None}
        ),
        "tenants/get_tenants": lambda caller, body: [places[each] for each in body["ids"] if each in places],
        "files/reserve_upload": lambda caller, body: None,
        "files/list_files": lambda caller, body: FilePage(files=(file(),), has_next_page=False, total_count=1),
        "tenants/list_tenants": lambda caller, body: list(places.values()),
    }


def settings(temporal_address: str, **others: Any) -> Settings:
    """Answers do not tell what they took, unless a test says so: then they can be compared whole."""
    told = {"response_trace": FeatureVisibility.OFF} | others
    return Settings(secret_key=KEY, service_key=KEY, temporal_address=temporal_address, **told)


def facts(error: dict[str, Any]) -> dict[str, Any]:
    """What an error tells, but for the id of its request, which each has."""
    told = dict(error["extensions"])
    assert told.pop("requestId")
    return told


def session(session_id: str = "ses_" + "a" * 32, *, user_id: str = ADA, hours: float = 24) -> Session:
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


def person(user_id: str) -> User:
    return User(id=user_id, email=f"{user_id}@example.com", name="Ada", mfa_enabled=False, created_at=utc_now())


def tenant(tenant_id: str, name: str) -> Tenant:
    tier = SubscriptionTier.FREE
    return Tenant(id=tenant_id, name=name, slug=name.lower(), subscription_tier=tier, feature_flags=(), role=Role.ADMIN)


def file(file_id: str = FILE, *, owner_id: str = GRACE) -> File:
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


def _as_json(answer: Answer) -> Any:
    if isinstance(answer, list):
        return [each.model_dump(mode="json") for each in answer]
    return None if answer is None else answer.model_dump(mode="json")
