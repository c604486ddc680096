"""The upgrade harness: running tenant switches while workers are replaced, with real services and a real Temporal."""

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
from tests.databases import create_sqlite_database
from tests.workflows.saga_harness import state_of, worker_dependencies_in
from worker.database import database
from worker.registry import Domain, WorkerDependencies, domains_of
from worker.workers import running_workers
from workflows.switch_tenant import SwitchTenant


class Workers:
    """Running workers of one task queue or one domain, which ``stop`` ends as a process would."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack

    async def stop(self) -> None:
        await self._stack.aclose()


@dataclass(frozen=True)
class Switch:
    """One tenant switch with its user and sessions."""

    user_id: str
    old_session: str
    token_hash: str
    handle: WorkflowHandle[Any, Any]

    async def state(self) -> OperationState:
        return await state_of(self.handle)

    async def started_steps(self) -> list[str]:
        """Return the names of the started steps in the order of their start."""
        began = [(step.started_at, step.name) for step in (await self.state()).steps if step.started_at]
        return [name for _, name in sorted(began)]


class UpgradeHarness:
    """Two tenants with users who are members of both and work in the first, and workers that can be exchanged."""

    def __init__(
        self, address: str, dependencies: WorkerDependencies, stack: AsyncExitStack, from_id: str, to_id: str
    ) -> None:
        self.client = dependencies.temporal
        self._address = address
        self._dependencies = dependencies
        self._stack = stack
        self._from_id, self.to_id = from_id, to_id

    async def workflows(self, switch: type, version: WorkerDeploymentVersion | None = None) -> Workers:
        """Start a worker for workflows with this class as SwitchTenant, as ``python -m worker operations`` does."""
        return await self._run([Domain(TaskQueue.OPERATIONS, workflows=(switch,))], version)

    async def domain(self, name: str) -> Workers:
        """Start a worker for the activities of a domain."""
        return await self._run(domains_of(name, self._dependencies), None)

    async def begin(self, count: int) -> list[Switch]:
        """Start as many switches of new users."""
        users_and_sessions = [(new_id("usr"), new_id("ses")) for _ in range(count)]
        await self._create_users(users_and_sessions)
        return list(await asyncio.gather(*(self._start(*each) for each in users_and_sessions)))

    async def begin_until(self, step: str, count: int) -> list[Switch]:
        """Start as many switches, and return them once each has begun the step."""
        switches = await self.begin(count)
        await self._wait_for_step(step, switches)
        return switches

    async def _wait_for_step(self, step: str, switches: Sequence[Switch]) -> None:
        """Wait until each switch has begun the step."""

        async def has_begun(switch: Switch) -> bool:
            return (await switch.started_steps())[-1:] == [step]

        for switch in switches:
            await until(lambda switch=switch: has_begun(switch), f"{switch.handle.id} has begun {step}")  # type: ignore[misc]

    async def sessions_of(self, switch: Switch) -> tuple[bool, bool]:
        """Return whether the old session is valid, and whether the new one is."""
        old = await auth.Session.get(id=switch.old_session)
        new = await auth.Session.get_or_none(token_hash=switch.token_hash)
        return old.ended_at is None, new is not None and new.is_active and new.ended_at is None

    async def tenant_of(self, switch: Switch) -> str:
        """Return the id of the user's current tenant."""
        return (await users.User.get(id=switch.user_id)).tenant_id

    async def _run(self, domains: Sequence[Domain], version: WorkerDeploymentVersion | None) -> Workers:
        stack = await self._stack.enter_async_context(AsyncExitStack())
        client = await connect(address=self._address, namespace=None, keys=None)
        await stack.enter_async_context(
            running_workers(client, domains, self._dependencies.change_notifier, version=version)
        )
        return Workers(stack)

    async def _create_users(self, users_and_sessions: Sequence[tuple[str, str]]) -> None:
        """Create the users, each with a session."""
        now = utc_now()
        await users.User.bulk_create(
            users.User(id=user, email=f"{user}@example.com", name="Test User", tenant_id=self._from_id, created_at=now)
            for user, _ in users_and_sessions
        )
        await tenants.Membership.bulk_create(
            tenants.Membership(user_id=user, tenant_id=tenant, role=Role.MEMBER)
            for user, _ in users_and_sessions
            for tenant in (self._from_id, self.to_id)
        )
        await users.Affiliation.bulk_create(
            users.Affiliation(user_id=user, tenant_id=tenant)
            for user, _ in users_and_sessions
            for tenant in (self._from_id, self.to_id)
        )
        await auth.Session.bulk_create(
            auth.Session(
                id=session,
                user_id=user,
                tenant_id=self._from_id,
                role=Role.MEMBER,
                token_hash=f"{session:0<64}",
                is_active=True,
                created_at=now,
                expires_at=now.replace(year=now.year + 1),
            )
            for user, session in users_and_sessions
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
async def open_upgrade_harness(address: str, folder: Path) -> AsyncIterator[UpgradeHarness]:
    """Yield a harness with workers of tenants and auth; switches wait at ``set_tenant`` for a worker of users."""
    client = await connect(address=address, namespace=None, keys=None)
    await ensure_search_attributes(client)
    async with AsyncExitStack() as stack:
        passwords = Passwords()
        stack.callback(passwords.close)
        await stack.enter_async_context(database(await create_sqlite_database(folder)))
        ids = []
        for slug in ("acme", "globex"):
            tier = SubscriptionTier.PROFESSIONAL
            ids.append((await tenants.Tenant.create(id=new_id("ten"), name=slug, slug=slug, subscription_tier=tier)).id)
        harness = UpgradeHarness(address, worker_dependencies_in(folder, client, passwords), stack, *ids)
        await harness.domain("tenants")
        await harness.domain("auth")
        yield harness


async def until(condition: Callable[[], Awaitable[bool]], description: str, *, deadline_seconds: float = 60) -> None:
    try:
        async with asyncio.timeout(deadline_seconds):
            while not await condition():  # noqa: ASYNC110 - the change happens in another process
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"Not within {deadline_seconds:.0f} s: {description}") from None
