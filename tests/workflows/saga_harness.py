"""The saga harness: workers with real services and a real database, and a plan of faults and cancellations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
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
from activities.notifications.mailer import FileMailer, Mailer
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
from infrastructure.caching.cache import MemoryCache
from infrastructure.change_notifications import LocalNotifier
from infrastructure.passwords import Passwords
from infrastructure.signing.secret_keys import SecretKeys
from infrastructure.signing.transfer_tokens import TransferTokenSigner
from infrastructure.storage import open_storage
from infrastructure.temporal.connection import SEARCH_ATTRIBUTES
from tests.databases import create_sqlite_database
from worker.database import database
from worker.error_translation import ErrorTranslationInterceptor
from worker.http import services_app
from worker.registry import WorkerDependencies, domains_of, routes_of
from worker.sandbox import workflow_runner

Command = TypeVar("Command", bound=Contract)

When = Literal["before", "after"]
"""Before the activity, or after its effect and before its result reaches the workflow."""
FINAL_ERROR = PermissionDenied("The fault plan denies it.")
"""A DomainError, which is not retried."""


@dataclass
class FaultPlan(Interceptor):
    """Faults and cancellations to inject into activities, by activity name, and a record of the attempts."""

    before: dict[str, Exception] = field(default_factory=dict)
    """Errors that are raised instead of the activity."""
    after: dict[str, Exception] = field(default_factory=dict)
    """Errors that are raised after the activity took effect: its result is lost."""
    max_faults: dict[str, int] = field(default_factory=dict)
    """The number of attempts that fail; without an entry, all of them."""
    cancel_before: str | None = None
    cancel_after: str | None = None
    """The activity during which the operation is cancelled."""
    attempted: list[str] = field(default_factory=list)
    """Names of activities in the order of their attempts, including undos."""
    attempt_times: list[tuple[str, datetime]] = field(default_factory=list)
    """Names of activities and the times at which Temporal started their attempts."""
    ended_attempts: list[str] = field(default_factory=list)
    """Names of activities in the order in which their attempts ended."""
    on_attempt: Callable[[str], Awaitable[None]] | None = None
    """Called with the activity's name before each attempt."""
    cancel: Callable[[], Awaitable[None]] | None = None

    @classmethod
    def failing(cls, when: When, name: str, error: Exception = FINAL_ERROR) -> FaultPlan:
        """Return a plan in which this activity fails."""
        return cls(before={name: error}) if when == "before" else cls(after={name: error})

    @classmethod
    def cancelling(cls, when: When, name: str) -> FaultPlan:
        """Return a plan in which the operation is cancelled during this activity."""
        return cls(cancel_before=name) if when == "before" else cls(cancel_after=name)

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _FaultInjector(next, self)

    def next_fault(self, name: str, failures: dict[str, Exception]) -> Exception | None:
        """Return the error for the next attempt of the activity, and count it; None if the attempt succeeds."""
        if name not in failures or self.max_faults.get(name, 1) == 0:
            return None
        if name in self.max_faults:
            self.max_faults[name] -= 1
        return failures[name]


class _FaultInjector(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, fault_plan: FaultPlan) -> None:
        super().__init__(next)
        self._fault_plan = fault_plan

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        try:
            return await self._execute_attempt(input)
        finally:
            self._fault_plan.ended_attempts.append(activity.info().activity_type)

    async def _execute_attempt(self, input: ExecuteActivityInput) -> Any:
        fault_plan, name = self._fault_plan, activity.info().activity_type
        fault_plan.attempted.append(name)
        fault_plan.attempt_times.append((name, activity.info().started_time))
        if fault_plan.on_attempt is not None:
            await fault_plan.on_attempt(name)
        if fault_plan.cancel_before == name:
            await self._cancel()
        if error := fault_plan.next_fault(name, fault_plan.before):
            raise error
        answer = await super().execute_activity(input)
        if fault_plan.cancel_after == name:
            await self._cancel()
        if error := fault_plan.next_fault(name, fault_plan.after):
            raise error
        return answer

    async def _cancel(self) -> None:
        assert self._fault_plan.cancel is not None
        await self._fault_plan.cancel()
        await asyncio.sleep(0.2)  # until the workflow has received the cancellation


class SagaHarness:
    """Workers of all domains on one database that contains the demo data."""

    def __init__(
        self, client: Client, fault_plan: FaultPlan, credentials: CredentialsService, services: Starlette
    ) -> None:
        self.client = client
        self.fault_plan = fault_plan
        self.credentials = credentials
        self.services = services
        self._handles: list[WorkflowHandle[Any, Any]] = []

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
        self.fault_plan.cancel = handle.cancel
        self._handles.append(handle)
        return handle

    async def terminate_all(self) -> None:
        """Terminate the started operations that still run, so that they do not run in other tests on the server."""
        await terminate(self._handles)

    async def run(
        self, run: Callable[..., Awaitable[Contract]], command: Command, kind: OperationKind
    ) -> OperationState:
        """Start the operation and return its last state."""
        return await self.end_of(await self.start(run, command, kind))

    async def end_of(self, handle: WorkflowHandle[Any, Any]) -> OperationState:
        """Wait until the operation has closed, and return its last state."""
        with suppress(WorkflowFailureError):
            await handle.result()
        return await state_of(handle)


async def open_session(account: str, role: Role = Role.ADMIN) -> auth.Session:
    """Create a session of a demo account in its current tenant."""
    user = await users.User.get(email=f"{account}@example.com")
    return await auth.Session.create(
        id=new_id("ses"),
        user_id=user.id,
        tenant_id=user.tenant_id,
        role=role,
        token_hash="a" * 64,
        is_active=True,
        created_at=utc_now(),
        expires_at=utc_now() + timedelta(days=1),
    )


async def terminate(handles: Iterable[WorkflowHandle[Any, Any]]) -> None:
    """Terminate the workflows that still run."""
    for handle in handles:
        with suppress(RPCError):  # the workflow has closed
            await handle.terminate()


async def state_of(handle: WorkflowHandle[Any, Any]) -> OperationState:
    """Return the current state of the operation from its memo."""
    memo = await (await handle.describe()).memo()
    return OperationState.model_validate(memo[MEMO_STATE])


def cancel_during_undo(failing: str, undo: str) -> FaultPlan:
    """Return a plan in which an activity fails, and a cancellation meets the first attempt of an undo, which fails."""
    return FaultPlan(
        after={failing: FINAL_ERROR}, before={undo: ConnectionError()}, max_faults={undo: 1}, cancel_before=undo
    )


def assert_compensated_despite_cancellation(fault_plan: FaultPlan, state: OperationState, undos: list[str]) -> None:
    """Assert that the operation failed and all undos ran in order, the undo with the cancellation twice."""
    assert [name for name in fault_plan.attempted if name in undos] == [
        name for undo in undos for name in [undo] * (1 + (undo == fault_plan.cancel_before))
    ]
    assert (state.status, state.challenge) == (OperationStatus.FAILED, None)
    assert state.failure is not None
    assert (state.failure.code, state.failure.compensated) == (OperationErrorCode.PERMISSION_DENIED, True)
    assert not {step.status for step in state.steps} & {StepStatus.COMPLETED, StepStatus.COMPENSATION_FAILED}


def worker_dependencies_in(
    folder: Path, client: Client, passwords: Passwords, mailer: Mailer | None = None
) -> WorkerDependencies:
    """Return the dependencies of all domains, with files and e-mails in the folder."""
    keys = SecretKeys(b"s" * 32)
    return WorkerDependencies(
        temporal=client,
        passwords=passwords,
        cache=MemoryCache(),
        change_notifier=LocalNotifier(),
        service_keys=keys,
        storage=open_storage(str(folder / "files")),
        transfer_token_signer=TransferTokenSigner(keys),
        mailer=mailer or FileMailer(folder / "mail"),
    )


@asynccontextmanager
async def open_saga_harness(
    client: Client, folder: Path, fault_plan: FaultPlan, mailer: Mailer | None = None
) -> AsyncIterator[SagaHarness]:
    """Yield a harness whose workers run until the context exits."""
    # The test server adds search attributes but does not list them.
    with suppress(RPCError):  # a real server has them
        await client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(namespace=client.namespace, search_attributes=SEARCH_ATTRIBUTES)
        )
    passwords = Passwords()
    async with AsyncExitStack() as stack:
        stack.callback(passwords.close)
        await stack.enter_async_context(database(await create_sqlite_database(folder, demo=True)))
        dependencies = worker_dependencies_in(folder, client, passwords, mailer)
        domains = domains_of("all", dependencies)
        for domain in domains:
            await stack.enter_async_context(
                Worker(
                    client,
                    task_queue=domain.queue,
                    workflows=domain.workflows,
                    activities=domain.activities,
                    workflow_runner=workflow_runner(),
                    interceptors=[ErrorTranslationInterceptor(), fault_plan],
                    workflow_failure_exception_types=[DomainError],
                )
            )
        credentials = CredentialsService(
            passwords, CacheRevocationPublisher(dependencies.cache, dependencies.change_notifier)
        )
        harness = SagaHarness(client, fault_plan, credentials, services_app(routes_of(domains)))
        stack.push_async_callback(harness.terminate_all)
        yield harness
