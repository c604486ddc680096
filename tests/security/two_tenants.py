"""Objects of every kind in two tenants, as an administrator of one tenant sees them: foreign, deleted or random."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import uuid4

import asyncpg
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client as Temporal
from temporalio.service import RPCError, RPCStatusCode

from contracts.base import new_id
from resolvers.following.hub import LINGER_SECONDS
from tests.end_to_end.client import PASSWORD, Client, Json
from tests.end_to_end.files import create_upload, process_file, upload_file
from tests.end_to_end.test_contract_onboarding import onboard, onboarding_input
from tests.stack import Stack

FOREIGN, DELETED, RANDOM = "foreign", "deleted", "random"
OPERATIONS = ("tenant-switch", "file-upload", "file-processing", "user-onboarding")
"""Kinds of operations whose id grants no access; tests of the ids of logins are in test_login_ids.py."""
OBJECT_KINDS = ("usr", "ten", "ses", "fil", "upl", "wsp")

_ROWS = {
    "usr": (("users_user", "id"), ("users_affiliation", "user_id"), ("tenants_membership", "user_id")),
    "ten": (("tenants_tenant", "id"), ("tenants_membership", "tenant_id"), ("users_affiliation", "tenant_id")),
    "ses": (("auth_session", "id"),),
    "fil": (("files_file", "id"),),
    "upl": (("files_upload", "id"),),
    "wsp": (("workspaces_workspace", "id"),),
}

ExecuteStatement = Callable[..., Awaitable[None]]
"""Executes an SQL statement with its values on the database of the stack."""


@dataclass(frozen=True)
class TwoTenants:
    """Ids of objects in two tenants.

    ``viewer`` administers Acme. ``ids`` has the ids by kind, and then by their relation to the viewer.
    """

    viewer: Client
    email: str
    ids: dict[str, dict[str, str]]


def database_of(stack: Stack, sqlite_file: str = "adx.db") -> ExecuteStatement:
    """Return a function that executes statements on the database of the stack."""

    async def postgres(statement: str, *values: object) -> None:
        for number in range(len(values), 0, -1):
            statement = f"${number}".join(statement.rsplit("?", 1))
        connection = await asyncpg.connect(stack.environment["DATABASE_URL"])
        await connection.execute(statement, *values)
        await connection.close()

    async def sqlite(statement: str, *values: object) -> None:
        def execute() -> None:
            connection = sqlite3.connect(stack.data_dir / sqlite_file, timeout=30)
            with connection:
                connection.execute(statement, values)
            connection.close()

        await asyncio.to_thread(execute)

    return postgres if stack.environment.get("DATABASE_URL", "").startswith("postgres") else sqlite


async def create_two_tenants(stack: Stack, execute: ExecuteStatement) -> TwoTenants:
    """Create objects of every kind in both tenants and delete one of each kind."""
    ada = Client(stack)
    await ada.log_in("ada@example.com")
    deleted = await _create_one_of_each(ada, "Acme")
    viewer, email = await _administrator(stack, ada)
    foreign = await _create_one_of_each(ada, "Globex")
    deleted["ten"] = await _second_tenant(viewer, execute)
    deleted["tenant-switch"] = await _failed_switch(viewer)
    deleted["ses"] = await _other_session(stack, email, viewer)

    for kind in ("usr", "ten", "fil", "wsp", *OPERATIONS):
        assert await _can_read(viewer, deleted[kind]), f"the object to delete does not exist: {kind}"
        assert not await _can_read(viewer, foreign[kind]), f"the object is visible to the viewer: {kind}"
    for kind, rows in _ROWS.items():
        for table, column in rows:
            await execute(f"DELETE FROM {table} WHERE {column} = ?", deleted[kind])
    for kind in OPERATIONS:
        now = time.time_ns() // 1000
        mark_as_deleted = f"UPDATE operations_record SET deleted_at = {now}, version = '' WHERE id = ?"
        await execute(mark_as_deleted, deleted[kind])
        await execute("DELETE FROM operations_state WHERE id = ?", deleted[kind])
    await _delete_operations(stack, [deleted[kind] for kind in OPERATIONS])

    random = {kind: new_id(kind) for kind in OBJECT_KINDS} | {kind: f"{kind}-{uuid4().hex}" for kind in OPERATIONS}
    kinds = (*OBJECT_KINDS, *OPERATIONS)
    ids = {kind: {FOREIGN: foreign[kind], DELETED: deleted[kind], RANDOM: random[kind]} for kind in kinds}
    return TwoTenants(viewer, email, ids)


async def _create_one_of_each(ada: Client, tenant: str) -> dict[str, str]:
    """Create objects as Ada in this tenant, which stays Ada's current tenant."""
    if await ada.current_tenant() != tenant:
        _, ada.token = await ada.switch_tenant(await ada.tenant_id(tenant))
    file = await upload_file(ada, b"some words\n", accessLevel="TENANT")
    response = await ada.execute("{ viewer { session { id } operations(first: 1) { nodes { id } } } }")
    onboarded = (await onboard(ada, onboarding_input(role="member")))["operation"]
    return {
        "ten": await ada.tenant_id(tenant),
        "ses": response["viewer"]["session"]["id"],
        "fil": file["id"],
        "upl": (await create_upload(ada, b"other words"))["id"],
        "file-upload": response["viewer"]["operations"]["nodes"][0]["id"],
        "file-processing": (await process_file(ada, file["id"]))["id"],
        "user-onboarding": onboarded["id"],
        "usr": onboarded["result"]["user"]["id"],
        "wsp": onboarded["result"]["workspace"]["id"],
        "tenant-switch": await _failed_switch(ada),
    }


async def _failed_switch(client: Client) -> str:
    """Start a switch that fails; it belongs to the current tenant of the client."""
    operation_id, _ = await client.start_switch(new_id("ten"))
    assert (await client.wait_for_final_state(operation_id))["status"] == "FAILED"
    return operation_id


async def _administrator(stack: Stack, ada: Client) -> tuple[Client, str]:
    """Onboard and sign in a new administrator."""
    person = onboarding_input(role="admin", password=PASSWORD)
    await onboard(ada, person)
    viewer = Client(stack)
    await viewer.log_in(person["email"])
    return viewer, person["email"]


async def _second_tenant(viewer: Client, execute: ExecuteStatement) -> str:
    """Create a tenant in the database with the viewer as a member, because the API cannot create one."""
    user_id = (await viewer.execute("{ viewer { user { id } } }"))["viewer"]["user"]["id"]
    id = new_id("ten")
    await execute(
        "INSERT INTO tenants_tenant (id, name, slug, subscription_tier) VALUES (?, 'Gone', ?, 'FREE')", id, id
    )
    await execute("INSERT INTO tenants_membership (user_id, tenant_id, role) VALUES (?, ?, 'member')", user_id, id)
    await execute("INSERT INTO users_affiliation (user_id, tenant_id) VALUES (?, ?)", user_id, id)
    return id


async def _other_session(stack: Stack, email: str, viewer: Client) -> str:
    """Sign in the viewer again and return the id of the new session."""
    other = Client(stack)
    await other.log_in(email)
    response = await other.execute("{ viewer { session { id } } }")
    id: str = response["viewer"]["session"]["id"]
    viewer_sessions: Json = (await viewer.execute("{ viewer { sessions { id } } }"))["viewer"]
    assert id in [session["id"] for session in viewer_sessions["sessions"]]
    return id


async def _can_read(viewer: Client, id: str) -> bool:
    response = await viewer.execute_unchecked("query ($id: ID!) { node(id: $id) { id } }", id=id)
    return bool(response.get("data") and response["data"]["node"])


async def _delete_operations(stack: Stack, ids: list[str]) -> None:
    temporal = await Temporal.connect(stack.temporal_address)
    for id in ids:
        await temporal.workflow_service.delete_workflow_execution(
            DeleteWorkflowExecutionRequest(namespace="default", workflow_execution=WorkflowExecution(workflow_id=id))
        )
    async with asyncio.timeout(120):  # Temporal deletes asynchronously
        for id in ids:
            while await _exists_in_temporal(temporal, id):  # noqa: ASYNC110 - the condition has no event
                await asyncio.sleep(0.1)
    await asyncio.sleep(LINGER_SECONDS + 1)  # until the watchers of the gateways have ended


async def _exists_in_temporal(temporal: Temporal, id: str) -> bool:
    try:
        await temporal.get_workflow_handle(id).describe()
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise
        return False
    return True
