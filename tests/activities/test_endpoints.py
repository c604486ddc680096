"""The services over HTTP: nobody gets in without a caller's token, and answers and refusals are contracts."""

from collections.abc import AsyncIterator

import httpx
import pytest
from pydantic import JsonValue
from starlette.applications import Starlette

from activities.auth import endpoints as auth_endpoints
from activities.auth.credentials import CredentialsService
from activities.auth.revocations import CacheRevocationPublisher
from activities.auth.sessions import SessionsService
from activities.tenants import endpoints as tenants_endpoints
from activities.tenants.service import TenantsService
from activities.users import endpoints as users_endpoints
from activities.users import models as users
from activities.users.service import UsersService
from contracts.auth import (
    REVOKED,
    NewSession,
    Role,
    Session,
    SessionMatch,
    SessionReplacement,
    VerifiedCredentials,
    session_cache_key,
)
from contracts.base import new_id
from contracts.callers import Caller
from contracts.errors import ErrorRecord
from contracts.users import Preferences
from infrastructure.caching.cache import MemoryCache
from infrastructure.change_notifications import LocalNotifier
from infrastructure.passwords import Passwords
from infrastructure.signing.secret_keys import SecretKeys
from infrastructure.signing.service_tokens import ServiceTokenSigner
from tests.redis_access import get_value
from worker.demo import PASSWORD, seed_demo_data

KEYS = SecretKeys(b"a key of thirty-two bytes, or so.")
SIGNERS = {service: ServiceTokenSigner(service, KEYS) for service in ("auth", "users", "tenants")}
PATHS = [
    "/auth/verify_credentials",
    "/auth/get_current_session",
    "/auth/get_current_sessions",
    "/auth/list_sessions",
    "/auth/revoke_session",
    "/auth/end_session",
    "/auth/check_permissions",
    "/users/get_users",
    "/users/get_preferences",
    "/users/update_preferences",
    "/tenants/get_tenants",
    "/tenants/list_tenants",
]
NEEDING_NOBODY = PATHS[:3]


def service_of(path: str) -> str:
    return path.split("/")[1]


class Services:
    """All endpoints of one process, the demo data behind them, and somebody who calls."""

    def __init__(
        self, passwords: Passwords, http: httpx.AsyncClient, sessions: SessionsService, cache: MemoryCache
    ) -> None:
        self.passwords, self.http, self.sessions, self.cache = passwords, http, sessions, cache

    async def call(self, path: str, body: JsonValue, caller: Caller) -> httpx.Response:
        headers = {"Authorization": f"Bearer {SIGNERS[service_of(path)].sign(caller)}"}
        return await self.http.post(path, json=body, headers=headers)


@pytest.fixture
async def services(any_database: None, passwords: Passwords) -> AsyncIterator[Services]:
    cache = MemoryCache()
    revocations = CacheRevocationPublisher(cache, LocalNotifier())
    sessions = SessionsService(revocations, memberships=TenantsService(LocalNotifier()))
    app = Starlette(
        routes=[
            *auth_endpoints.routes(sessions, CredentialsService(passwords, revocations), SIGNERS["auth"]),
            *users_endpoints.routes(UsersService(), SIGNERS["users"]),
            *tenants_endpoints.routes(TenantsService(LocalNotifier()), SIGNERS["tenants"]),
        ]
    )
    await seed_demo_data(passwords)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://services") as http:
        yield Services(passwords, http, sessions, cache)


async def user_named(account: str) -> users.User:
    return await users.User.get(email=f"{account}@example.com")


async def caller_named(account: str) -> Caller:
    row = await user_named(account)
    return Caller(user_id=row.id, tenant_id=row.tenant_id, request_id="req-1")


def refusal(response: httpx.Response) -> ErrorRecord:
    return ErrorRecord.model_validate_json(response.content)


async def test_request_without_a_service_token_is_rejected(services: Services) -> None:
    for path in PATHS:
        for headers in (
            {},
            {"Authorization": "Bearer "},
            {"Authorization": "Bearer a.b.c"},
            {"Authorization": "Basic x"},
        ):
            response = await services.http.post(path, json={}, headers=headers)
            assert response.status_code == 401
            assert refusal(response).name == "NotSignedIn"


async def test_token_for_one_service_is_rejected_by_the_others(services: Services) -> None:
    ada = await caller_named("ada")
    for path in PATHS:
        for service, signer in SIGNERS.items():
            headers = {"Authorization": f"Bearer {signer.sign(ada)}"}
            response = await services.http.post(path, json={}, headers=headers)
            assert (response.status_code == 401) == (service != service_of(path)), (path, service)


async def test_token_signed_with_another_key_is_rejected(services: Services) -> None:
    forged = ServiceTokenSigner("tenants", SecretKeys(b"another key of thirty-two bytes!!")).sign(
        await caller_named("ada")
    )

    response = await services.http.post("/tenants/list_tenants", json={}, headers={"Authorization": f"Bearer {forged}"})

    assert response.status_code == 401


async def test_endpoints_with_user_data_require_a_signed_in_user(services: Services) -> None:
    body: JsonValue = {"ids": [], "session_id": new_id("ses"), "permissions": []}
    for path in PATHS:
        if path not in NEEDING_NOBODY:
            response = await services.call(path, body, Caller())
            assert response.status_code == 401
            assert refusal(response).name == "NotSignedIn"


async def test_right_password_returns_a_reference(services: Services) -> None:
    response = await services.call(
        "/auth/verify_credentials", {"email": "ada@example.com", "password": PASSWORD}, Caller()
    )

    assert response.status_code == 200
    assert VerifiedCredentials.model_validate_json(response.content).user_id == (await user_named("ada")).id


@pytest.mark.parametrize(
    "body", [{"email": "ada@example.com", "password": "no"}, {"email": "eve@example.com", "password": PASSWORD}]
)
async def test_wrong_credentials_have_the_same_response(services: Services, body: dict[str, JsonValue]) -> None:
    response = await services.call("/auth/verify_credentials", body, Caller())

    assert response.status_code == 401
    assert refusal(response) == ErrorRecord(
        name="InvalidCredentials", message="The e-mail address or the password is wrong."
    )


async def open_session(services: Services, account: str, token_hash: str = "a" * 64) -> Session:
    caller = await caller_named(account)
    assert caller.user_id is not None
    assert caller.tenant_id is not None
    new = NewSession(
        key=token_hash, user_id=caller.user_id, tenant_id=caller.tenant_id, role=Role.ADMIN, token_hash=token_hash
    )
    session = await services.sessions.create_session(new)
    await services.sessions.replace_session(SessionReplacement(key=f"{token_hash}:activate", session_id=session.id))
    return session


async def test_session_can_be_read_listed_checked_and_ended(services: Services) -> None:
    session, ada = await open_session(services, "ada"), await caller_named("ada")

    found = await services.call("/auth/get_current_session", {"token_hash": "a" * 64}, Caller())
    together = await services.call(
        "/auth/get_current_sessions", {"token_hashes": ["a" * 64, "b" * 64, "no hash"]}, Caller()
    )
    listed = await services.call("/auth/list_sessions", {}, ada)
    allowed = await services.call(
        "/auth/check_permissions", {"session_id": session.id, "permissions": ["users:onboard"]}, ada
    )
    ended = await services.call("/auth/end_session", {"session_id": session.id}, ada)
    gone = await services.call("/auth/get_current_session", {"token_hash": "a" * 64}, Caller())

    assert Session.model_validate_json(found.content) == Session.model_validate_json(allowed.content) == session
    assert [SessionMatch.model_validate(each) for each in together.json()] == [
        SessionMatch(token_hash="a" * 64, session=session)
    ]
    assert [Session.model_validate(each) for each in listed.json()] == [session]
    assert (ended.status_code, ended.json()) == (200, None)
    assert (gone.status_code, refusal(gone).name) == (401, "SessionEnded")
    assert await get_value(services.cache, session_cache_key("a" * 64)) == REVOKED


@pytest.mark.parametrize("path", ["/auth/revoke_session", "/auth/end_session"])
async def test_session_of_another_user_is_not_found(services: Services, path: str) -> None:
    session = await open_session(services, "ada")

    foreign = await services.call(path, {"session_id": session.id}, await caller_named("grace"))
    absent = await services.call(path, {"session_id": new_id("ses")}, await caller_named("grace"))

    assert (foreign.status_code, refusal(foreign).name) == (404, "SessionNotFound")
    assert foreign.content == absent.content
    assert (await services.sessions.get_session(session.id)).id == session.id


async def test_batches_contain_the_visible_users_and_tenants(services: Services) -> None:
    grace = await caller_named("grace")
    ids: list[JsonValue] = [(await user_named(name)).id for name in ("alan", "ada", "grace")]
    globex = (await user_named("alan")).tenant_id

    seen = await services.call("/users/get_users", {"ids": ids}, grace)
    tenants = await services.call("/tenants/get_tenants", {"ids": [globex, grace.tenant_id]}, grace)
    listed = await services.call("/tenants/list_tenants", {}, grace)

    assert [user["email"] for user in seen.json()] == ["ada@example.com", "grace@example.com"]
    assert [(tenant["slug"], tenant["role"]) for tenant in tenants.json()] == [("acme", "member")]
    assert listed.json() == tenants.json()


async def test_preferences_are_the_callers_own(services: Services) -> None:
    ada, grace = await caller_named("ada"), await caller_named("grace")

    updated = await services.call("/users/update_preferences", {"theme": "DARK", "language": "en-GB"}, ada)

    assert Preferences.model_validate_json(updated.content).language == "en-GB"
    assert (await services.call("/users/get_preferences", {}, ada)).json() == updated.json()
    assert (await services.call("/users/get_preferences", {}, grace)).json()["language"] == "en"


async def test_invalid_input_is_rejected_with_the_path_of_each_field(services: Services) -> None:
    response = await services.call(
        "/users/update_preferences", {"timezone": "Mars/Olympus", "language": "?"}, await caller_named("ada")
    )

    assert response.status_code == 422
    assert [field.path for field in refusal(response).fields] == [("language",), ("timezone",)]


async def test_invalid_body_is_rejected_without_quoting_it(services: Services) -> None:
    headers = {"Authorization": f"Bearer {SIGNERS['auth'].sign(Caller())}"}
    incomplete, surrogate = b'{"password": "s3cret"}', b'{"email": "\\ud800", "password": "s3cret"}'

    for content in (b"", b"{", b"[]", b"null", incomplete, surrogate, b"\xff" * 70_000):
        response = await services.http.post("/auth/verify_credentials", content=content, headers=headers)
        assert response.status_code == 422
        assert refusal(response).name == "InvalidInput"
        assert b"s3cret" not in response.content


async def test_batch_size_is_limited(services: Services) -> None:
    response = await services.call("/users/get_users", {"ids": ["x"] * 501}, await caller_named("ada"))

    assert response.status_code == 422
    assert [field.path for field in refusal(response).fields] == [("ids",)]
