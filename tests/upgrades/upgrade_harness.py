"""Many switches of tenants under way while the workers of workflows change, on real services and a real Temporal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from temporalio.client import WorkflowHandle
from temporalio.common import WorkerDeploymentVersion

from activities.auth import models as auth
from activities.tenants import models as tenants
from activities.users import models as users
from contracts.auth import Role
from contracts.base import new_id, utc_now
from contracts.operations import MEMO_STATE, OperationKind, OperationState, operation_id
from contracts.task_queues import TaskQueue
from contracts.tenants import SubscriptionTier, SwitchTenantCommand
from infrastructure.passwords import Passwords
from infrastructure.temporal.connection import connect, ensure_search_attributes
from tests.databases import fresh_sqlite
from tests.workflows.saga_harness import parts_in, state_of
from worker.database import database
from worker.registry import Domain, WorkerDependencies, domains_of
from worker.workers import running_workers
from workflows.switch_tenant import SwitchTenant


class Workers:
    """Workers of one task queue or one domain, until they are stopped as a process stops them."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack

    async def stop(self) -> None:
        await self._stack.aclose()


@dataclass(frozen=True)
class Switch:
    """One operation, and who it is that switches."""

    user_id: str
    old_session: str
    token_hash: str
    handle: WorkflowHandle[Any, Any]

    async def state(self) -> OperationState:
        return await state_of(self.handle)

    async def order(self) -> list[str]:
        """Its steps as they began."""
        began = [(step.started_at, step.name) for step in (await self.state()).steps if step.started_at]
        return [name for _, name in sorted(began)]


class Crossing:
    """Two tenants, and users who work in the first of them and may work in both."""

    def __init__(
        self, address: str, parts: WorkerDependencies, stack: AsyncExitStack, from_id: str, to_id: str
    ) -> None:
        self.client = parts.temporal
        self._address = address
        self._parts = parts
        self._stack = stack
        self._from_id, self.to_id = from_id, to_id

    async def workflows(self, switch: type, version: WorkerDeploymentVersion | None = None) -> Workers:
        """A worker as ``python -m worker operations`` runs it, with this for SwitchTenant."""
        return await self._run([Domain(TaskQueue.OPERATIONS, workflows=(switch,))], version)

    async def domain(self, name: str) -> Workers:
        """The activities of a domain."""
        return await self._run(domains_of(name, self._parts), None)

    async def begin(self, count: int) -> list[Switch]:
        people = [(new_id("usr"), new_id("ses")) for _ in range(count)]
        await self._settle(people)
        return list(await asyncio.gather(*(self._start(*person) for person in people)))

    async def begin_until(self, step: str, count: int) -> list[Switch]:
        """As many as that, once each has begun the step."""
        switches = await self.begin(count)
        await self._standing_at(step, switches)
        return switches

    async def _standing_at(self, step: str, switches: Sequence[Switch]) -> None:
        """Until each of them has begun the step."""

        async def stands(switch: Switch) -> bool:
            return (await switch.order())[-1:] == [step]

        for switch in switches:
            await until(lambda switch=switch: stands(switch), f"{switch.handle.id} stands at {step}")  # type: ignore[misc]

    async def sessions_of(self, switch: Switch) -> tuple[bool, bool]:
        """Whether the old session is open, and the new one."""
        old = await auth.Session.get(id=switch.old_session)
        new = await auth.Session.get_or_none(token_hash=switch.token_hash)
        return old.ended_at is None, new is not None and new.active and new.ended_at is None

    async def tenant_of(self, switch: Switch) -> str:
        return (await users.User.get(id=switch.user_id)).tenant_id

    async def _run(self, domains: Sequence[Domain], version: WorkerDeploymentVersion | None) -> Workers:
        stack = await self._stack.enter_async_context(AsyncExitStack())
        client = await connect(address=self._address, namespace=None, keys=None)
        await stack.enter_async_context(running_workers(client, domains, self._parts.wakeups, version=version))
        return Workers(stack)

    async def _settle(self, people: Sequence[tuple[str, str]]) -> None:
        """Users with a session each."""
        now = utc_now()
        await users.User.bulk_create(
            users.User(id=user, email=f"{user}@example.com", name="Somebody", tenant_id=self._from_id, created_at=now)
            for user, _ in people
        )
        await tenants.Membership.bulk_create(
            tenants.Membership(user_id=user, tenant_id=tenant, role=Role.MEMBER)
            for user, _ in people
            for tenant in (self._from_id, self.to_id)
        )
        await users.Affiliation.bulk_create(
            users.Affiliation(user_id=user, tenant_id=tenant)
            for user, _ in people
            for tenant in (self._from_id, self.to_id)
        )
        await auth.Session.bulk_create(
            auth.Session(
                id=session,
                user_id=user,
                tenant_id=self._from_id,
                role=Role.MEMBER,
                token_hash=f"{session:0<64}",
                active=True,
                created_at=now,
                expires_at=now.replace(year=now.year + 1),
            )
            for user, session in people
        )

    async def _start(self, user_id: str, session_id: str) -> Switch:
        kind, token_hash = OperationKind.TENANT_SWITCH, f"{new_id('tok'):0<64}"
        handle = await self.client.start_workflow(
            SwitchTenant.__name__,
            SwitchTenantCommand(
                user_id=user_id,
                from_tenant_id=self._from_id,
                to_tenant_id=self.to_id,
                session_id=session_id,
                token_hash=token_hash,
            ),
            id=operation_id(b"", kind, tenant_id="", user_id="", key=None),
            task_queue=TaskQueue.OPERATIONS,
            memo={MEMO_STATE: OperationState.first(kind, utc_now()).to_memo()},
        )
        return Switch(user_id, session_id, token_hash, handle)


@asynccontextmanager
async def crossing(address: str, folder: Path) -> AsyncIterator[Crossing]:
    """With workers of tenants and auth: every switch stands at ``set_tenant`` until users' workers come."""
    client = await connect(address=address, namespace=None, keys=None)
    await ensure_search_attributes(client)
    async with AsyncExitStack() as stack:
        passwords = Passwords()
        stack.callback(passwords.close)
        await stack.enter_async_context(database(await fresh_sqlite(folder)))
        ids = []
        for slug in ("acme", "globex"):
            tier = SubscriptionTier.PROFESSIONAL
            ids.append((await tenants.Tenant.create(id=new_id("ten"), name=slug, slug=slug, subscription_tier=tier)).id)
        made = Crossing(address, parts_in(folder, client, passwords), stack, *ids)
        await made.domain("tenants")
        await made.domain("auth")
        yield made


async def until(so: Callable[[], Awaitable[bool]], what: str, *, deadline_seconds: float = 60) -> None:
    try:
        async with asyncio.timeout(deadline_seconds):
            while not await so():  # noqa: ASYNC110 - it is elsewhere
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"Not within {deadline_seconds:.0f} s: {what}") from None
