"""Starting an operation: one workflow for one idempotency key, whoever asks and however often."""

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

RPC_SECONDS = timedelta(seconds=6)

_KIND = SearchAttributeKey.for_keyword(ATTRIBUTE_KIND)

Workflow = TypeVar("Workflow")
Command = TypeVar("Command", bound=Contract)
Result = TypeVar("Result", bound=Contract)


@dataclass(frozen=True)
class FormerStartRequest:
    """The same order as it was given if one of the former keys was the current one: see ``StartRequest``."""

    id: str
    asked: JsonValue
    token: str | None = None


@dataclass(frozen=True)
class StartRequest(Generic[Workflow, Command, Result]):
    """What one operation is started with.

    ``asked`` is what the client asked for: the same id with something else is a conflict. ``token`` is that of the
    session that the operation makes, where it makes one. ``former``: the same order under the former secret keys, for
    an idempotency key whose operation was started before the keys were rotated.
    """

    id: str
    run: Callable[[Workflow, Command], Awaitable[Result]]
    command: Command
    state: OperationState
    user_id: str
    tenant_id: str | None
    asked: JsonValue
    token: str | None = None
    subject: Subject | None = None
    """The object concerned, for the record of operations; it is never in Temporal."""
    retry_of: str | None = None
    """The operation that this one retries."""
    former: tuple[FormerStartRequest, ...] = ()

    @property
    def ids(self) -> tuple[str, ...]:
        """Each id that the operation may have."""
        return (self.id, *(each.id for each in self.former))

    def token_of(self, operation: Operation) -> str | None:
        """The token of the session that this operation makes, which has one of the ``ids``."""
        tokens = {each.id: each.token for each in self.former} | {self.id: self.token}
        return tokens[operation.id]

    def concerning(self, subject: Subject) -> StartRequest[Workflow, Command, Result]:
        """The same, for the record of operations to show the subject."""
        return dataclasses.replace(self, subject=subject)


class WorkflowStarter:
    def __init__(self, client: Client) -> None:
        self._client = client

    async def start(self, order: StartRequest[Workflow, Command, Result]) -> Operation:
        """The operation just started, or the one that this id has started before; IdempotencyKeyReused where that one
        was asked for otherwise.
        """
        kind = kind_of(order.id)
        assert kind is not None
        digest = _digest(order.asked)
        tenants = [] if order.tenant_id is None else [SearchAttributePair(TENANTS_ATTRIBUTE, [order.tenant_id])]
        try:
            await self._client.start_workflow(
                order.run,
                order.command,
                id=order.id,
                task_queue=TaskQueue.OPERATIONS,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                memo={MEMO_STATE: order.state.to_memo(), MEMO_INPUT_DIGEST: digest},
                search_attributes=TypedSearchAttributes(
                    [
                        SearchAttributePair(_KIND, kind.value),
                        SearchAttributePair(USER_ATTRIBUTE, order.user_id),
                        *tenants,
                    ]
                ),
                rpc_timeout=RPC_SECONDS,
            )
        except WorkflowAlreadyStartedError:
            return await self._started_before(order.id, digest)
        return Operation(
            id=order.id,
            kind=kind,
            user_id=order.user_id,
            tenant_ids=() if order.tenant_id is None else (order.tenant_id,),
            state=order.state,
            position=Position(revision=order.state.revision),
        )

    async def started_before(self, operation_id: str, asked: JsonValue) -> Operation | None:
        """The operation that this id has started; None if it has started none. Raises IdempotencyKeyReused."""
        try:
            return await self._started_before(operation_id, _digest(asked))
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise
            return None

    async def started_under_former_keys(self, order: StartRequest[Workflow, Command, Result]) -> Operation | None:
        """Return the operation that the same order has started before the keys were rotated.

        Raises:
            IdempotencyKeyReused: something else was asked for then.
        """
        for former in order.former:
            if (operation := await self.started_before(former.id, former.asked)) is not None:
                return operation
        return None

    async def _started_before(self, operation_id: str, digest: str) -> Operation:
        description = await self._client.get_workflow_handle(operation_id).describe(rpc_timeout=RPC_SECONDS)
        if await description.memo_value(MEMO_INPUT_DIGEST, type_hint=str) != digest:
            raise IdempotencyKeyReused()
        return await to_operation(description, self._client)


def _digest(asked: JsonValue) -> str:
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
