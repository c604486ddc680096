"""A stage for sagas: real services on a real database, where steps fail, lose their answer or are cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar

from starlette.applications import Starlette
from temporalio import activity
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.service import RPCError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor, Worker

from activities.auth import models as auth
from activities.auth.credentials import CredentialsService
from activities.auth.revocations import CacheRevocationPublisher
from activities.notifications.mailer import FileMailer, Mail
from activities.users import models as users
from contracts.auth import Role
from contracts.base import Contract, new_id, utc_now
from contracts.errors import DomainError, OperationErrorCode, PermissionDenied
from contracts.operations import (
    MEMO_STATE,
    OperationKind,
    OperationState,
    OperationStatus,
    StepStatus,
    operation_id,
)
from contracts.secret_keys import SecretKeys
from contracts.transfer_tokens import TransferSigner
from infrastructure.caching.cache import MemoryCache
from infrastructure.change_notifications import LocalNotifier
from infrastructure.passwords import Passwords
from infrastructure.storage import open_storage
from infrastructure.temporal.connection import SEARCH_ATTRIBUTES
from tests.databases import fresh_sqlite
from worker.database import database
from worker.http import services_app
from worker.interceptors import ErrorTranslation
from worker.registry import WorkerDependencies, domains_of, routes_of
from worker.sandbox import workflow_runner

Command = TypeVar("Command", bound=Contract)

When = Literal["before", "after"]
"""Before the activity's effect, or after it and before its answer."""
ANSWER = PermissionDenied("The script says no.")
"""A failure that is final at once."""


@dataclass
class Script(Interceptor):
    """What befalls activities, by their names, and what ran."""

    before: dict[str, Exception] = field(default_factory=dict)
    """Raised in place of the activity."""
    after: dict[str, Exception] = field(default_factory=dict)
    """Raised once the activity has acted: its answer is lost."""
    times: dict[str, int] = field(default_factory=dict)
    """How many tries it befalls; without an entry, all."""
    cancel_before: str | None = None
    cancel_after: str | None = None
    """Where the operation is cancelled, while that activity runs."""
    ran: list[str] = field(default_factory=list)
    """Activities in the order of their tries, undos included."""
    started: list[tuple[str, datetime]] = field(default_factory=list)
    """When Temporal started each of these tries, by its own clock."""
    ended: list[str] = field(default_factory=list)
    """Those whose try has ended."""
    watch: Callable[[str], Awaitable[None]] | None = None
    """Called with the activity's name before each attempt."""
    cancel: Callable[[], Awaitable[None]] | None = None

    @classmethod
    def failing(cls, when: When, name: str, error: Exception = ANSWER) -> Script:
        return cls(before={name: error}) if when == "before" else cls(after={name: error})

    @classmethod
    def cancelling(cls, when: When, name: str) -> Script:
        return cls(cancel_before=name) if when == "before" else cls(cancel_after=name)

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Scripted(next, self)

    def due(self, name: str, failures: dict[str, Exception]) -> Exception | None:
        if name not in failures or self.times.get(name, 1) == 0:
            return None
        if name in self.times:
            self.times[name] -= 1
        return failures[name]


class _Scripted(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, script: Script) -> None:
        super().__init__(next)
        self._script = script

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        try:
            return await self._try(input)
        finally:
            self._script.ended.append(activity.info().activity_type)

    async def _try(self, input: ExecuteActivityInput) -> Any:
        script, name = self._script, activity.info().activity_type
        script.ran.append(name)
        script.started.append((name, activity.info().started_time))
        if script.watch is not None:
            await script.watch(name)
        if script.cancel_before == name:
            await self._cancel()
        if error := script.due(name, script.before):
            raise error
        answer = await super().execute_activity(input)
        if script.cancel_after == name:
            await self._cancel()
        if error := script.due(name, script.after):
            raise error
        return answer

    async def _cancel(self) -> None:
        assert self._script.cancel is not None
        await self._script.cancel()
        await asyncio.sleep(0.2)  # until the workflow has heard of it, while this activity is still under way


class Stage:
    """Workers of every domain on one database with the demo data in it."""

    def __init__(self, client: Client, script: Script, credentials: CredentialsService, services: Starlette) -> None:
        self.client = client
        self.script = script
        self.credentials = credentials
        self.services = services

    async def start(
        self, run: Callable[..., Awaitable[Contract]], command: Command, kind: OperationKind
    ) -> WorkflowHandle[Any, Any]:
        handle = await self.client.start_workflow(
            run,
            command,
            id=operation_id(b"", kind, tenant_id="", user_id="", key=None),
            task_queue="operations",
            memo={MEMO_STATE: OperationState.first(kind, utc_now()).to_memo()},
        )
        self.script.cancel = handle.cancel
        return handle

    async def play(
        self, run: Callable[..., Awaitable[Contract]], command: Command, kind: OperationKind
    ) -> OperationState:
        """The operation's last state."""
        return await self.end_of(await self.start(run, command, kind))

    async def end_of(self, handle: WorkflowHandle[Any, Any]) -> OperationState:
        with suppress(WorkflowFailureError):
            await handle.result()
        return await state_of(handle)


async def open_session(account: str, role: Role = Role.ADMIN) -> auth.Session:
    """Of one of the demo accounts, in the tenant that they work in."""
    user = await users.User.get(email=f"{account}@example.com")
    return await auth.Session.create(
        id=new_id("ses"),
        user_id=user.id,
        tenant_id=user.tenant_id,
        role=role,
        token_hash="a" * 64,
        active=True,
        created_at=utc_now(),
        expires_at=utc_now() + timedelta(days=1),
    )


async def state_of(handle: WorkflowHandle[Any, Any]) -> OperationState:
    memo = await (await handle.describe()).memo()
    return OperationState.model_validate(memo[MEMO_STATE])


def cancelling_an_undo(failing: str, undo: str) -> Script:
    """The activity fails, and the operation is cancelled during the first try of the undo, which fails as well."""
    return Script(after={failing: ANSWER}, before={undo: ConnectionError()}, times={undo: 1}, cancel_before=undo)


def assert_undone_in_spite_of_a_cancellation(script: Script, state: OperationState, undos: list[str]) -> None:
    """It failed, and each of the undos ran, in order, that during which it was cancelled once more."""
    assert [name for name in script.ran if name in undos] == [
        name for undo in undos for name in [undo] * (1 + (undo == script.cancel_before))
    ]
    assert (state.status, state.challenge) == (OperationStatus.FAILED, None)
    assert state.failure is not None
    assert (state.failure.code, state.failure.compensated) == (OperationErrorCode.PERMISSION_DENIED, True)
    assert not {step.status for step in state.steps} & {StepStatus.COMPLETED, StepStatus.COMPENSATION_FAILED}


def parts_in(folder: Path, client: Client, passwords: Passwords, mail: Mail | None = None) -> WorkerDependencies:
    """What the domains of one process need, with files and letters in the folder."""
    keys = SecretKeys(b"s" * 32)
    return WorkerDependencies(
        temporal=client,
        passwords=passwords,
        cache=MemoryCache(),
        wakeups=LocalNotifier(),
        service_keys=keys,
        storage=open_storage(str(folder / "files")),
        transfers=TransferSigner(keys),
        mail=mail or FileMailer(folder / "mail"),
    )


@asynccontextmanager
async def staged(client: Client, folder: Path, script: Script, mail: Mail | None = None) -> AsyncIterator[Stage]:
    # The test server adds search attributes but does not list them.
    with suppress(RPCError):  # a real server has them
        await client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(namespace=client.namespace, search_attributes=SEARCH_ATTRIBUTES)
        )
    passwords = Passwords()
    async with AsyncExitStack() as stack:
        stack.callback(passwords.close)
        await stack.enter_async_context(database(await fresh_sqlite(folder, demo=True)))
        parts = parts_in(folder, client, passwords, mail)
        domains = domains_of("all", parts)
        for domain in domains:
            await stack.enter_async_context(
                Worker(
                    client,
                    task_queue=domain.queue,
                    workflows=domain.workflows,
                    activities=domain.activities,
                    workflow_runner=workflow_runner(),
                    interceptors=[ErrorTranslation(), script],
                    workflow_failure_exception_types=[DomainError],
                )
            )
        credentials = CredentialsService(passwords, CacheRevocationPublisher(parts.cache, parts.wakeups))
        yield Stage(client, script, credentials, services_app(routes_of(domains)))
