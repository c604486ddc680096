"""One of everything in each of two tenants: to an administrator of one, what is foreign, gone, or never was."""

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
from tests.end_to_end.files import announce, keep, process
from tests.end_to_end.test_contract_onboarding import onboard, onboarding_input
from tests.stack import Stack

FOREIGN, DELETED, RANDOM = "foreign", "deleted", "random"
OPERATIONS = ("tenant-switch", "file-upload", "file-processing", "user-onboarding")
"""Kinds of operations whose id alone shows nothing; test_login_ids.py tests what the id of a login shows."""
THINGS = ("usr", "ten", "ses", "fil", "upl", "wsp")

_ROWS = {
    "usr": (("users_user", "id"), ("users_affiliation", "user_id"), ("tenants_membership", "user_id")),
    "ten": (("tenants_tenant", "id"), ("tenants_membership", "tenant_id"), ("users_affiliation", "tenant_id")),
    "ses": (("auth_session", "id"),),
    "fil": (("files_file", "id"),),
    "upl": (("files_upload", "id"),),
    "wsp": (("workspaces_workspace", "id"),),
}

Execute = Callable[..., Awaitable[None]]
"""A statement with its values, on the database of the stack."""


@dataclass(frozen=True)
class World:
    """``viewer`` administers Acme. ``ids``: by kind and by what they are to the viewer."""

    viewer: Client
    email: str
    ids: dict[str, dict[str, str]]


def database_of(stack: Stack, sqlite_file: str = "adx.db") -> Execute:
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


async def make_world(stack: Stack, execute: Execute) -> World:
    ada = Client(stack)
    await ada.log_in("ada@example.com")
    deleted = await _one_of_everything(ada, "Acme")
    viewer, email = await _administrator(stack, ada)
    foreign = await _one_of_everything(ada, "Globex")
    deleted["ten"] = await _second_tenant(viewer, execute)
    deleted["tenant-switch"] = await _failed_switch(viewer)
    deleted["ses"] = await _other_session(stack, email, viewer)

    for kind in ("usr", "ten", "fil", "wsp", *OPERATIONS):
        assert await _sees(viewer, deleted[kind]), f"what is to be deleted was never there: {kind}"
        assert not await _sees(viewer, foreign[kind]), f"it is not foreign: {kind}"
    for kind, rows in _ROWS.items():
        for table, column in rows:
            await execute(f"DELETE FROM {table} WHERE {column} = ?", deleted[kind])
    for kind in OPERATIONS:
        now = time.time_ns() // 1000
        mark = f"UPDATE operations_record SET deleted_at = {now}, version = '' WHERE id = ?"
        await execute(mark, deleted[kind])
        await execute("DELETE FROM operations_state WHERE id = ?", deleted[kind])
    await _delete_operations(stack, [deleted[kind] for kind in OPERATIONS])

    random = {kind: new_id(kind) for kind in THINGS} | {kind: f"{kind}-{uuid4().hex}" for kind in OPERATIONS}
    kinds = (*THINGS, *OPERATIONS)
    ids = {kind: {FOREIGN: foreign[kind], DELETED: deleted[kind], RANDOM: random[kind]} for kind in kinds}
    return World(viewer, email, ids)


async def _one_of_everything(ada: Client, tenant: str) -> dict[str, str]:
    """Made by Ada in that tenant, where she stays."""
    if await ada.current_tenant() != tenant:
        _, ada.token = await ada.switched(await ada.tenant(tenant))
    file = await keep(ada, b"some words\n", accessLevel="TENANT")
    answer = await ada.ask("{ viewer { session { id } operations(first: 1) { nodes { id } } } }")
    onboarded = (await onboard(ada, onboarding_input(role="member")))["operation"]
    return {
        "ten": await ada.tenant(tenant),
        "ses": answer["viewer"]["session"]["id"],
        "fil": file["id"],
        "upl": (await announce(ada, b"other words"))["id"],
        "file-upload": answer["viewer"]["operations"]["nodes"][0]["id"],
        "file-processing": (await process(ada, file["id"]))["id"],
        "user-onboarding": onboarded["id"],
        "usr": onboarded["result"]["user"]["id"],
        "wsp": onboarded["result"]["workspace"]["id"],
        "tenant-switch": await _failed_switch(ada),
    }


async def _failed_switch(client: Client) -> str:
    """It began in the tenant where the client is, and led nowhere."""
    operation_id, _ = await client.start_switch(new_id("ten"))
    assert (await client.to_its_end(operation_id))["status"] == "FAILED"
    return operation_id


async def _administrator(stack: Stack, ada: Client) -> tuple[Client, str]:
    person = onboarding_input(role="admin", password=PASSWORD)
    await onboard(ada, person)
    viewer = Client(stack)
    await viewer.log_in(person["email"])
    return viewer, person["email"]


async def _second_tenant(viewer: Client, execute: Execute) -> str:
    """The viewer is its member; there is no way yet to found one."""
    user_id = (await viewer.ask("{ viewer { user { id } } }"))["viewer"]["user"]["id"]
    id = new_id("ten")
    await execute(
        "INSERT INTO tenants_tenant (id, name, slug, subscription_tier) VALUES (?, 'Gone', ?, 'FREE')", id, id
    )
    await execute("INSERT INTO tenants_membership (user_id, tenant_id, role) VALUES (?, ?, 'member')", user_id, id)
    await execute("INSERT INTO users_affiliation (user_id, tenant_id) VALUES (?, ?)", user_id, id)
    return id


async def _other_session(stack: Stack, email: str, viewer: Client) -> str:
    other = Client(stack)
    await other.log_in(email)
    answer = await other.ask("{ viewer { session { id } } }")
    id: str = answer["viewer"]["session"]["id"]
    seen: Json = (await viewer.ask("{ viewer { sessions { id } } }"))["viewer"]
    assert id in [session["id"] for session in seen["sessions"]]
    return id


async def _sees(viewer: Client, id: str) -> bool:
    answer = await viewer.hear("query ($id: ID!) { node(id: $id) { id } }", id=id)
    return bool(answer.get("data") and answer["data"]["node"])


async def _delete_operations(stack: Stack, ids: list[str]) -> None:
    temporal = await Temporal.connect(stack.temporal_address)
    for id in ids:
        await temporal.workflow_service.delete_workflow_execution(
            DeleteWorkflowExecutionRequest(namespace="default", workflow_execution=WorkflowExecution(workflow_id=id))
        )
    async with asyncio.timeout(120):  # it comes to it when it comes to it
        for id in ids:
            while await _is_there(temporal, id):  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.1)
    await asyncio.sleep(LINGER_SECONDS + 1)  # until gateways have let go of what was followed, too


async def _is_there(temporal: Temporal, id: str) -> bool:
    try:
        await temporal.get_workflow_handle(id).describe()
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise
        return False
    return True
