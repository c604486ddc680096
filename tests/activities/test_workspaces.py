"""Workspaces: seen by their user and by administrators, in their own tenant."""

import httpx
import pytest
from starlette.applications import Starlette

from activities.workspaces import models
from activities.workspaces.endpoints import routes
from activities.workspaces.service import WorkspacesService
from contracts.auth import PERMISSIONS, Role
from contracts.base import new_id
from contracts.callers import Caller
from contracts.errors import NotSignedIn, StepAlreadyUndone
from contracts.workspaces import NewWorkspace, Workspace, product_url, workspace_path
from infrastructure.signing.secret_keys import SecretKeys
from infrastructure.signing.service_tokens import ServiceTokenSigner

ACME, GLOBEX = new_id("ten"), new_id("ten")
ADA, GRACE, LINUS = new_id("usr"), new_id("usr"), new_id("usr")
SIGNER = ServiceTokenSigner("workspaces", SecretKeys(b"a key of thirty-two bytes, or so."))


def caller(user_id: str, role: Role = Role.MEMBER, *, tenant_id: str = ACME) -> Caller:
    return Caller(user_id=user_id, tenant_id=tenant_id, permissions=tuple(PERMISSIONS[role]))


async def create(
    user_id: str = GRACE, *, tenant_id: str = ACME, key: str = "onboarding-1:create_workspace"
) -> Workspace:
    new = NewWorkspace(key=key, tenant_id=tenant_id, user_id=user_id, name="Grace Hopper's workspace")
    return await WorkspacesService().create_user_workspace(new)


async def test_workspace_is_visible_to_its_user(any_database: None) -> None:
    workspace = await create()

    assert workspace.name == "Grace Hopper's workspace"
    assert await WorkspacesService().get_workspaces(caller(GRACE), [workspace.id]) == [workspace]


@pytest.mark.parametrize("app_url", ["https://adx.example/app", "https://adx.example/app/"])
def test_workspace_address_contains_app_url_and_tenant_slug(app_url: str) -> None:
    assert product_url(app_url, workspace_path("acme", "wsp_1")) == "https://adx.example/app/acme/workspaces/wsp_1"


def test_workspace_address_is_a_path_without_an_app_url() -> None:
    assert product_url("", workspace_path("acme", "wsp_1")) == "/acme/workspaces/wsp_1"


async def test_workspace_creation_is_repeatable_and_can_be_undone(any_database: None) -> None:
    service = WorkspacesService()
    await create(ADA, key="onboarding-2:create_workspace")

    assert await create() == await create()
    assert await models.Workspace.all().count() == 2

    for _ in range(2):
        await service.undo_create_user_workspace("onboarding-1:create_workspace")
    with pytest.raises(StepAlreadyUndone):
        await create()
    assert [row.user_id for row in await models.Workspace.all()] == [ADA]


async def test_undo_before_the_creation_prevents_it(any_database: None) -> None:
    await WorkspacesService().undo_create_user_workspace("onboarding-1:create_workspace")

    with pytest.raises(StepAlreadyUndone):
        await create()
    assert await models.Workspace.all().count() == 0


async def test_workspace_is_visible_to_its_user_and_administrators_only(any_database: None) -> None:
    service, workspace = WorkspacesService(), await create()

    async def sees(who: Caller) -> bool:
        return [each.id for each in await service.get_workspaces(who, [workspace.id])] == [workspace.id]

    assert await sees(caller(GRACE, Role.GUEST))
    assert await sees(caller(ADA, Role.ADMIN))
    assert await sees(caller(ADA, Role.OWNER))
    assert not await sees(caller(LINUS))
    assert not await sees(caller(GRACE, tenant_id=GLOBEX))
    assert not await sees(caller(ADA, Role.OWNER, tenant_id=GLOBEX))
    for nobody in (Caller(), Caller(user_id=GRACE), Caller(tenant_id=ACME)):
        with pytest.raises(NotSignedIn):
            await sees(nobody)


async def test_workspaces_are_returned_in_the_requested_order(any_database: None) -> None:
    first, second = await create(key="a"), await create(key="b")
    asked = [second.id, new_id("wsp"), "\0", "", first.id, second.id]

    seen = await WorkspacesService().get_workspaces(caller(GRACE), asked)

    assert [each.id for each in seen] == [second.id, first.id]


async def test_long_name_is_truncated(any_database: None) -> None:
    new = NewWorkspace(key="a", tenant_id=ACME, user_id=GRACE, name="é" * 1000)

    assert (await WorkspacesService().create_user_workspace(new)).name == "é" * 250


async def test_endpoint_requires_a_service_token(any_database: None) -> None:
    workspace = await create()
    app = Starlette(routes=routes(WorkspacesService(), SIGNER))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://services") as http:

        async def ask(token: str) -> httpx.Response:
            headers = {"Authorization": f"Bearer {token}"}
            return await http.post("/workspaces/get_workspaces", json={"ids": [workspace.id]}, headers=headers)

        assert [each["id"] for each in (await ask(SIGNER.sign(caller(GRACE)))).json()] == [workspace.id]
        assert (await ask(SIGNER.sign(caller(LINUS)))).json() == []
        for token in ("", "a.b.c", SIGNER.sign(Caller())):
            assert (await ask(token)).status_code == 401
