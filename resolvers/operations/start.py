"""Start of workflows: exactly one workflow for each idempotency key."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, TypeVar

from pydantic import JsonValue
from temporalio.client import Client
from temporalio.common import (
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from contracts.base import Contract
from contracts.errors import IdempotencyKeyReused
from contracts.operation_records import Subject
from contracts.operations import (
    ATTRIBUTE_KIND,
    MEMO_INPUT_DIGEST,
    MEMO_STATE,
    Operation,
    OperationState,
    Position,
    kind_of,
)
from contracts.task_queues import TaskQueue
from infrastructure.temporal.operation_history import TENANTS_ATTRIBUTE, USER_ATTRIBUTE, to_operation

RPC_TIMEOUT = timedelta(seconds=6)
"""Timeout of one call to Temporal."""

_KIND = SearchAttributeKey.for_keyword(ATTRIBUTE_KIND)

Workflow = TypeVar("Workflow")
Command = TypeVar("Command", bound=Contract)
Result = TypeVar("Result", bound=Contract)


@dataclass(frozen=True)
class FormerStartRequest:
    """The same start request under a former secret key: see ``StartRequest.former``."""

    id: str
    fingerprint: JsonValue
    token: str | None = None


@dataclass(frozen=True)
class StartRequest(Generic[Workflow, Command, Result]):
    """Request to start one operation: the workflow, its command, and its id.

    ``fingerprint`` represents the client's input: the same id with another fingerprint is a conflict. ``token`` is the
    token of the session that the operation creates, if it creates one. ``former`` holds the same request under each
    former secret key, because an idempotency key may have started its operation before the keys were rotated.
    """

    id: str
    run: Callable[[Workflow, Command], Awaitable[Result]]
    command: Command
    state: OperationState
    user_id: str
    tenant_id: str | None
    fingerprint: JsonValue
    token: str | None = None
    subject: Subject | None = None
    """The object concerned, for the record of operations; it is never sent to Temporal."""
    retry_of: str | None = None
    """Id of the failed operation that this one retries."""
    former: tuple[FormerStartRequest, ...] = ()

    @property
    def ids(self) -> tuple[str, ...]:
        """All ids that the operation may have, one for each secret key."""
        return (self.id, *(former.id for former in self.former))

    def token_for(self, operation: Operation) -> str | None:
        """Return the token of the session that this operation creates; the operation has one of the ``ids``."""
        tokens = {former.id: former.token for former in self.former} | {self.id: self.token}
        return tokens[operation.id]

    def with_subject(self, subject: Subject) -> StartRequest[Workflow, Command, Result]:
        """Return a copy with the object concerned, for the record of operations."""
        return dataclasses.replace(self, subject=subject)


class WorkflowStarter:
    """Starts workflows in Temporal, and finds workflows that an idempotency key has started before."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def start(self, request: StartRequest[Workflow, Command, Result]) -> Operation:
        """Start the workflow, or return the operation that the same id has started before.

        Raises:
            IdempotencyKeyReused: the id was started with another fingerprint.
        """
        kind = kind_of(request.id)
        assert kind is not None
        digest = _digest(request.fingerprint)
        tenants = [] if request.tenant_id is None else [SearchAttributePair(TENANTS_ATTRIBUTE, [request.tenant_id])]
        try:
            await self._client.start_workflow(
                request.run,
                request.command,
                id=request.id,
                task_queue=TaskQueue.OPERATIONS,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                memo={MEMO_STATE: request.state.to_memo(), MEMO_INPUT_DIGEST: digest},
                search_attributes=TypedSearchAttributes(
                    [
                        SearchAttributePair(_KIND, kind.value),
                        SearchAttributePair(USER_ATTRIBUTE, request.user_id),
                        *tenants,
                    ]
                ),
                rpc_timeout=RPC_TIMEOUT,
            )
        except WorkflowAlreadyStartedError:
            return await self._describe_started(request.id, digest)
        return Operation(
            id=request.id,
            kind=kind,
            user_id=request.user_id,
            tenant_ids=() if request.tenant_id is None else (request.tenant_id,),
            state=request.state,
            position=Position(revision=request.state.revision),
        )

    async def find_started(self, operation_id: str, fingerprint: JsonValue) -> Operation | None:
        """Return the operation with this id; None if there is none.

        Raises:
            IdempotencyKeyReused: the id was started with another fingerprint.
        """
        try:
            return await self._describe_started(operation_id, _digest(fingerprint))
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise
            return None

    async def find_started_under_former_keys(
        self, request: StartRequest[Workflow, Command, Result]
    ) -> Operation | None:
        """Return the operation that the same request started before the keys were rotated; None if there is none.

        Raises:
            IdempotencyKeyReused: the id was started with another fingerprint.
        """
        for former in request.former:
            if (operation := await self.find_started(former.id, former.fingerprint)) is not None:
                return operation
        return None

    async def _describe_started(self, operation_id: str, digest: str) -> Operation:
        """Return the operation with this id; raise IdempotencyKeyReused if its fingerprint has another digest."""
        description = await self._client.get_workflow_handle(operation_id).describe(rpc_timeout=RPC_TIMEOUT)
        if await description.memo_value(MEMO_INPUT_DIGEST, type_hint=str) != digest:
            raise IdempotencyKeyReused()
        return await to_operation(description, self._client)


def _digest(fingerprint: JsonValue) -> str:
    """Return the SHA-256 digest of a fingerprint; it is kept in the memo of the workflow."""
    return hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()
