"""Tenants apart: whoever asks what, nothing of another tenant is seen or counted; what is foreign is as if absent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette

from activities.auth import endpoints as auth_endpoints
from activities.auth import models as auth
from activities.auth.credentials import CredentialsService
from activities.auth.sessions import SessionsService
from activities.files import endpoints as files_endpoints
from activities.files import models as files
from activities.files.service import FilesService
from activities.tenants import endpoints as tenants_endpoints
from activities.tenants import models as tenants
from activities.tenants.service import TenantsService
from activities.users import endpoints as users_endpoints
from activities.users import models as users
from activities.users.service import UsersService
from activities.workspaces import endpoints as workspaces_endpoints
from activities.workspaces import models as workspaces
from activities.workspaces.service import WorkspacesService
from contracts.auth import PERMISSIONS, Role
from contracts.callers import Caller
from contracts.files import AccessLevel
from contracts.tenants import SubscriptionTier
from infrastructure.change_notifications import LocalNotifier
from infrastructure.passwords import Passwords
from infrastructure.signing.secret_keys import SecretKeys
from infrastructure.signing.service_tokens import ServiceTokenSigner
from infrastructure.signing.transfer_tokens import TransferTokenSigner
from tests.activities.conftest import RecordingRevocationPublisher
from tests.databases import create_sqlite_database
from worker.database import database

SIGNERS = {
    service: ServiceTokenSigner(service, SecretKeys(b"k" * 32))
    for service in ("auth", "users", "tenants", "files", "workspaces")
}
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
TABLES = (
    users.User,
    users.Affiliation,
    users.Preferences,
    tenants.Tenant,
    tenants.Membership,
    auth.Session,
    files.File,
    files.Upload,
    workspaces.Workspace,
)


@dataclass(frozen=True)
class Thing:
    """Something in a tenant that belongs to a user."""

    id: str
    tenant_id: str
    user_id: str
    access: AccessLevel = AccessLevel.PRIVATE
    published: bool = True


@dataclass(frozen=True)
class World:
    """Who there is, who belongs where and as what, what lies there, and ids that name nothing."""

    tenants: tuple[str, ...]
    users: tuple[str, ...]
    roles: dict[tuple[str, str], Role]
    files: tuple[Thing, ...]
    uploads: tuple[Thing, ...]
    workspaces: tuple[Thing, ...]
    sessions: tuple[Thing, ...]
    absent: tuple[str, ...]

    def members(self, tenant_id: str) -> set[str]:
        return {user_id for user_id, place in self.roles if place == tenant_id}


def numbered(prefix: str, count: int) -> tuple[str, ...]:
    return tuple(f"{prefix}_{number:032x}" for number in range(count))


strange_ids = st.one_of(
    st.text(max_size=50),
    st.sampled_from(["", "%", "_", "' OR 1=1 --", "usr_", "fil_%", "ten_" + "0" * 31, "\0", "usr_" + "٣" * 32]),
    st.builds(
        lambda prefix, number: f"{prefix}_{number:032x}", st.sampled_from(["usr", "ten", "fil"]), st.integers(90)
    ),
    st.builds(lambda number: f"FIL_{number:032X}", st.integers(0, 3)),
)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    places = numbered("ten", draw(st.integers(2, 3)))
    people = numbered("usr", draw(st.integers(1, 4)))
    roles = draw(
        st.dictionaries(st.tuples(st.sampled_from(people), st.sampled_from(places)), st.sampled_from(Role), min_size=1)
    )

    def things(prefix: str, **more: st.SearchStrategy[Any]) -> tuple[Thing, ...]:
        some = draw(
            st.lists(
                st.fixed_dictionaries(
                    {"tenant_id": st.sampled_from(places), "user_id": st.sampled_from(people), **more}
                ),
                max_size=6,
            )
        )
        return tuple(Thing(id=f"{prefix}_{number:032x}", **facts) for number, facts in enumerate(some))

    return World(
        tenants=places,
        users=people,
        roles=roles,
        files=things("fil", access=st.sampled_from(AccessLevel), published=st.booleans()),
        uploads=things("upl"),
        workspaces=things("wsp"),
        sessions=things("ses"),
        absent=tuple(draw(st.lists(strange_ids, max_size=5))),
    )


class Services:
    """The endpoints of all domains on one database, which each world finds empty."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def call(self, caller: Caller, path: str, body: dict[str, Any]) -> httpx.Response:
        headers = {"authorization": f"Bearer {SIGNERS[path.split('/')[1]].sign(caller)}"}
        return await self._http.post(path, json=body, headers=headers)

    async def found(self, caller: Caller, path: str, ids: Iterable[str]) -> list[str]:
        """The ids of what is given for these, asked for together."""
        response = await self.call(caller, path, {"ids": list(ids)})
        assert response.status_code == 200, response.text
        return [each["id"] for each in response.json()]

    async def fill(self, world: World) -> None:
        for table in TABLES:
            await table.all().delete()
        later = NOON + timedelta(days=1)
        for tenant_id in world.tenants:
            await tenants.Tenant.create(
                id=tenant_id, name=tenant_id, slug=tenant_id, subscription_tier=SubscriptionTier.FREE
            )
        for user_id in world.users:
            await users.User.create(
                id=user_id, email=f"{user_id}@x.test", name=user_id, tenant_id=world.tenants[0], created_at=NOON
            )
        for (user_id, tenant_id), role in world.roles.items():
            await users.Affiliation.create(user_id=user_id, tenant_id=tenant_id)
            await tenants.Membership.create(user_id=user_id, tenant_id=tenant_id, role=role)
        await files.File.bulk_create([_file(file) for file in world.files])
        await files.Upload.bulk_create([_upload(upload, later) for upload in world.uploads])
        await workspaces.Workspace.bulk_create(
            workspaces.Workspace(id=each.id, tenant_id=each.tenant_id, user_id=each.user_id, name="w", created_at=NOON)
            for each in world.workspaces
        )
        await auth.Session.bulk_create([_session(session, later) for session in world.sessions])


def _file(file: Thing) -> files.File:
    return files.File(
        id=file.id,
        tenant_id=file.tenant_id,
        owner_id=file.user_id,
        upload_id=f"upl_{file.id[4:]}",
        size=1,
        checksum="c" * 64,
        access_level=file.access.value,
        created_at=NOON,
        uploaded_at=NOON if file.published else None,
    )


def _upload(upload: Thing, expires_at: datetime) -> files.Upload:
    return files.Upload(
        id=upload.id,
        tenant_id=upload.tenant_id,
        user_id=upload.user_id,
        name="n",
        content_type="text/plain",
        size=1,
        access_level=AccessLevel.TENANT.value,
        tier=SubscriptionTier.FREE.value,
        expires_at=expires_at,
    )


def _session(session: Thing, expires_at: datetime) -> auth.Session:
    return auth.Session(
        id=session.id,
        user_id=session.user_id,
        tenant_id=session.tenant_id,
        role=Role.OWNER,
        token_hash=session.id.rjust(64, "0"),
        is_active=True,
        created_at=NOON,
        expires_at=expires_at,
    )


def open_services(stack: AsyncExitStack, folder: Path, passwords: Passwords) -> httpx.AsyncClient:
    def clock() -> datetime:
        return NOON

    revocations = RecordingRevocationPublisher()
    app = Starlette(
        routes=[
            *auth_endpoints.routes(
                SessionsService(revocations, clock, memberships=TenantsService(LocalNotifier())),
                CredentialsService(passwords, revocations, clock),
                SIGNERS["auth"],
            ),
            *users_endpoints.routes(UsersService(clock), SIGNERS["users"]),
            *tenants_endpoints.routes(TenantsService(LocalNotifier()), SIGNERS["tenants"]),
            *files_endpoints.routes(FilesService(TransferTokenSigner(SecretKeys(b"k" * 32)), clock), SIGNERS["files"]),
            *workspaces_endpoints.routes(WorkspacesService(clock=clock), SIGNERS["workspaces"]),
        ]
    )
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://services")


Check = Callable[[Services, World], Coroutine[None, None, None]]


def isolation(check: Check, folder: Path, passwords: Passwords) -> None:
    """Let hypothesis look for a world in which the check fails; all of them on one database."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()

        async def start() -> Services:
            await stack.enter_async_context(database(await create_sqlite_database(folder)))
            http = await stack.enter_async_context(open_services(stack, folder / "files", passwords))
            return Services(http)

        services = runner.run(start())

        @settings(max_examples=40, deadline=None)
        @given(world=worlds())
        def holds(world: World) -> None:
            runner.run(services.fill(world))
            runner.run(check(services, world))

        try:
            holds()
        finally:
            runner.run(stack.aclose())


def callers(world: World) -> Iterable[tuple[Caller, Role]]:
    """Everybody, wherever they belong, as their sessions there say."""
    for (user_id, tenant_id), role in world.roles.items():
        permissions = tuple(sorted(PERMISSIONS[role]))
        yield Caller(user_id=user_id, tenant_id=tenant_id, permissions=permissions), role


def administers(caller: Caller) -> bool:
    return "operations:administer" in caller.permissions


def sees_file(caller: Caller, file: Thing) -> bool:
    shared = file.access is AccessLevel.TENANT or file.user_id == caller.user_id or administers(caller)
    return file.published and file.tenant_id == caller.tenant_id and shared


def every_id(world: World) -> list[str]:
    things = [*world.files, *world.uploads, *world.workspaces, *world.sessions]
    return [*world.users, *world.tenants, *(thing.id for thing in things), *world.absent]


async def check_files(services: Services, world: World) -> None:
    for caller, _ in callers(world):
        seen = {file.id for file in world.files if sees_file(caller, file)}
        assert set(await services.found(caller, "/files/get_files", every_id(world))) == seen
        listed: list[str] = []
        after: dict[str, Any] | None = None
        while True:
            page = (await services.call(caller, "/files/list_files", {"first": 2, "after": after})).json()
            assert page["total_count"] == len(seen), "something was counted that is not seen"
            listed += [file["id"] for file in page["files"]]
            if not page["has_next_page"]:
                break
            after = {"uploaded_at": page["files"][-1]["uploaded_at"], "id": page["files"][-1]["id"]}
        assert sorted(listed) == sorted(seen)


async def check_workspaces(services: Services, world: World) -> None:
    for caller, _ in callers(world):
        seen = {
            each.id
            for each in world.workspaces
            if each.tenant_id == caller.tenant_id and (each.user_id == caller.user_id or administers(caller))
        }
        assert set(await services.found(caller, "/workspaces/get_workspaces", every_id(world))) == seen


async def check_people_and_places(services: Services, world: World) -> None:
    """Here a session may say a tenant to which its user does not belong (any more)."""
    for user_id, tenant_id in product(world.users, (*world.tenants, None)):
        caller = Caller(user_id=user_id, tenant_id=tenant_id, permissions=tuple(PERMISSIONS[Role.OWNER]))
        members = world.members(tenant_id or "")
        colleagues = members if user_id in members else set()
        assert set(await services.found(caller, "/users/get_users", every_id(world))) == {user_id} | colleagues
        mine = {place for who, place in world.roles if who == user_id}
        assert set(await services.found(caller, "/tenants/get_tenants", every_id(world))) == mine
        listed = (await services.call(caller, "/tenants/list_tenants", {})).json()
        assert {(tenant["id"], tenant["role"]) for tenant in listed} == {
            (place, world.roles[user_id, place].value) for place in mine
        }


async def answers(
    services: Services, caller: Caller, path: str, field: str, ids: Sequence[str], **more: Any
) -> set[tuple[int, bytes]]:
    """All the different answers to the same question about each of these."""
    responses = [await services.call(caller, path, {field: id, **more}) for id in ids]
    return {(response.status_code, response.content) for response in responses}


async def check_what_is_asked_for_alone(services: Services, world: World) -> None:
    for caller, _ in callers(world):
        own_uploads = {
            each.id for each in world.uploads if (each.user_id, each.tenant_id) == (caller.user_id, caller.tenant_id)
        }
        own_sessions = {each.id for each in world.sessions if each.user_id == caller.user_id}
        others = [id for id in every_id(world) if id not in own_uploads | own_sessions]
        for path, field, more in (
            ("/files/get_upload", "upload_id", {}),
            ("/auth/revoke_session", "session_id", {}),
            ("/auth/end_session", "session_id", {}),
            ("/auth/check_permissions", "session_id", {"permissions": ["tenant:read"]}),
        ):
            different = await answers(services, caller, path, field, [*others, f"{field[:3]}_{'f' * 32}"], **more)
            assert len(different) == 1, "what is foreign is told from what is absent"
            assert different.pop()[0] >= 400
        if "files:write" in caller.permissions:
            for upload_id in own_uploads:
                response = await services.call(caller, "/files/get_upload", {"upload_id": upload_id})
                assert response.json()["tenant_id"] == caller.tenant_id
        listed = (await services.call(caller, "/auth/list_sessions", {})).json()
        open_sessions = {
            each.id
            for each in world.sessions
            if each.user_id == caller.user_id and (each.user_id, each.tenant_id) in world.roles
        }
        assert {session["id"] for session in listed} == open_sessions
    assert await auth.Session.filter(ended_at=None).count() == len(world.sessions), "a foreign session was ended"


@pytest.mark.parametrize(
    "check", [check_files, check_workspaces, check_people_and_places, check_what_is_asked_for_alone]
)
def test_no_endpoint_returns_or_counts_data_of_another_tenant(
    check: Check, tmp_path: Path, passwords: Passwords
) -> None:
    isolation(check, tmp_path, passwords)
