"""Operations as clients use them: start, get, follow, list, cancel and start again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import NamedTuple

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from contracts.auth import LogInCommand, Session, VerifiedCredentials
from contracts.base import utc_now
from contracts.errors import OperationNotFound, OperationNotRetryable, PermissionDenied
from contracts.operations import (
    Operation,
    OperationKind,
    OperationState,
    OperationStatus,
    SwitchedTenants,
    kind_of,
    operation_id,
)
from contracts.tenants import SwitchTenantCommand
from contracts.wakeups import Wakeups
from resolvers.cursors import Cursors
from resolvers.feed import Feeds
from resolvers.history import operation_of
from resolvers.index import OperationIndex, Row
from resolvers.listing import Listing, OperationPage
from resolvers.progress import ProgressHub
from resolvers.start import RPC_SECONDS, Starter
from resolvers.tokens import session_token, token_hash
from resolvers.watcher import Delivery
from workflows.log_in import LogIn
from workflows.switch_tenant import SwitchTenant

ADMINISTER = "operations:administer"


class Started(NamedTuple):
    """An operation, and the token of the session it makes, where it makes one."""

    operation: Operation
    token: str | None = None


class Operations:
    """One a process. ``secret`` is the edge's key, from which ids, session tokens and cursors are derived."""

    def __init__(
        self, client: Client, hub: ProgressHub, index: OperationIndex, wakeups: Wakeups, secret: bytes
    ) -> None:
        self._client = client
        self._hub = hub
        self._index = index
        self._secret = secret
        self._starter = Starter(client)
        self._cursors = Cursors(secret)
        self._listing = Listing(client, index, self._cursors)
        self._wakeups = wakeups
        self._feeds = Feeds(hub, self._listing, wakeups)

    async def log_in(
        self, verified: VerifiedCredentials, tenant_id: str | None, *, key: str | None, wait_seconds: float
    ) -> Started:
        """Start a login for whoever gave the right password; ``tenant_id`` None is the tenant they work in."""
        kind = OperationKind.LOGIN
        login_id = operation_id(self._secret, kind, tenant_id="", user_id=verified.user_id, key=key)
        token = session_token(self._secret, login_id)
        operation = await self._starter.start(
            LogIn.run,
            LogInCommand(
                reference=verified.reference,
                user_id=verified.user_id,
                tenant_id=tenant_id,
                token_hash=token_hash(token),
            ),
            operation_id=login_id,
            state=OperationState.first(kind, utc_now()),
            user_id=verified.user_id,
            tenant_id=None,
            asked={"tenant": tenant_id},
        )
        return Started(await self._settle(operation, wait_seconds), token)

    async def switch_tenant(self, viewer: Session, tenant_id: str, *, key: str | None, wait_seconds: float) -> Started:
        """Start a switch of the viewer's session to another tenant."""
        return await self._switch(viewer, tenant_id, key=key, asked={"tenant": tenant_id}, wait_seconds=wait_seconds)

    async def get(self, viewer: Session | None, operation_id: str) -> Operation:
        """OperationNotFound unless the viewer started it or administers its tenant; a login is open to any holder."""
        return _visible(viewer, await self._describe(operation_id))

    async def follow(
        self, viewer: Session | None, operation_id: str, *, after: str | None
    ) -> AsyncGenerator[Operation]:
        """The operation as it stands, then each newer state to its close; ``after`` is a cursor of it."""
        if kind_of(operation_id) is None:
            raise OperationNotFound()
        position = None if after is None else self._cursors.read(operation_id, after)
        states = self._hub.watch(operation_id, after=position, admit=lambda operation: _visible(viewer, operation))
        async with aclosing(states):
            async for operation in states:
                yield operation

    def delivery(self, operation_id: str) -> Delivery | None:
        """How the states of an operation that is followed in this process come."""
        return self._hub.delivery(operation_id)

    async def follow_all(
        self,
        viewer: Session,
        *,
        kinds: frozenset[OperationKind] | None = None,
        statuses: frozenset[OperationStatus] | None = None,
    ) -> AsyncGenerator[Operation]:
        """Each operation of the viewer in the current tenant, as it starts, moves and closes; without an end."""
        async with aclosing(self._feeds.follow(viewer)) as states:
            async for operation in states:
                if (kinds is None or operation.kind in kinds) and (
                    statuses is None or operation.state.status in statuses
                ):
                    yield operation

    async def page(
        self,
        viewer: Session,
        *,
        first: int,
        after: str | None,
        kinds: frozenset[OperationKind] | None = None,
        statuses: frozenset[OperationStatus] | None = None,
    ) -> OperationPage:
        """The viewer's operations in the current tenant, newest first."""
        return await self._listing.page(viewer, first=first, after=after, kinds=kinds, statuses=statuses)

    async def cancel(self, viewer: Session, operation_id: str) -> Operation:
        """Ask it to stop and undo what it did; harmless where it has closed."""
        operation = await self.get(viewer, operation_id)
        if not operation.is_closed:
            try:
                await self._client.get_workflow_handle(operation_id).cancel(rpc_timeout=RPC_SECONDS)
            except RPCError as error:
                if error.status != RPCStatusCode.NOT_FOUND:  # it closed meanwhile
                    raise
            operation = await self._describe(operation_id)
        return operation

    async def retry(self, viewer: Session, operation_id: str, *, key: str | None, wait_seconds: float) -> Started:
        """Start a closed operation that did not complete again, with the same input, as a new one."""
        failed = await self.get(viewer, operation_id)
        if failed.user_id != viewer.user_id:
            raise PermissionDenied("Only who started an operation can start it again.")
        if not failed.is_closed or failed.state.status is OperationStatus.COMPLETED:
            raise OperationNotRetryable()
        if failed.state.switch is None:
            raise OperationNotRetryable()
        return await self._switch(
            viewer,
            failed.state.switch.to_tenant_id,
            key=key,
            asked={"again": operation_id},
            wait_seconds=wait_seconds,
        )

    def cursor(self, operation: Operation) -> str:
        return self._cursors.write(operation.id, operation.position)

    async def _switch(
        self, viewer: Session, tenant_id: str, *, key: str | None, asked: dict[str, str], wait_seconds: float
    ) -> Started:
        kind = OperationKind.TENANT_SWITCH
        # A switch is the user's, not a tenant's: sent again from the new tenant, its key still names it.
        switch_id = operation_id(self._secret, kind, tenant_id="", user_id=viewer.user_id, key=key)
        token = session_token(self._secret, switch_id)
        operation = await self._starter.start(
            SwitchTenant.run,
            SwitchTenantCommand(
                user_id=viewer.user_id,
                from_tenant_id=viewer.tenant_id,
                to_tenant_id=tenant_id,
                session_id=viewer.id,
                token_hash=token_hash(token),
            ),
            operation_id=switch_id,
            state=OperationState.first(
                kind,
                utc_now(),
                started_by=viewer.user_id,
                switch=SwitchedTenants(from_tenant_id=viewer.tenant_id, to_tenant_id=tenant_id),
            ),
            user_id=viewer.user_id,
            tenant_id=viewer.tenant_id,
            asked=dict(asked),
        )
        return Started(await self._settle(operation, wait_seconds), token)

    async def _settle(self, operation: Operation, seconds: float) -> Operation:
        """The operation once it has closed or waits for its user, or as it stands when the seconds are over."""
        await self._learn_of(operation, operation.tenant_ids)
        known = operation.tenant_ids
        try:
            async with asyncio.timeout(seconds if seconds > 0 else None):
                if seconds > 0 and not _settled(operation):
                    operation = await self._settled_state(operation)
        except TimeoutError:
            operation = await self._describe(operation.id)
        await self._learn_of(operation, (tenant for tenant in operation.tenant_ids if tenant not in known))
        return operation

    async def _settled_state(self, operation: Operation) -> Operation:
        async with aclosing(self._hub.watch(operation.id, after=operation.position)) as states:
            async for newer in states:
                operation = newer
                if _settled(operation):
                    break
        return operation

    async def _learn_of(self, operation: Operation, tenant_ids: Iterable[str]) -> None:
        for tenant_id in tenant_ids:
            await self._index.add(operation.user_id, tenant_id, Row(operation.started_at.timestamp(), operation.id))
            await self._wakeups.tell(operation.user_id)

    async def _describe(self, operation_id: str) -> Operation:
        if kind_of(operation_id) is None:
            raise OperationNotFound()
        try:
            description = await self._client.get_workflow_handle(operation_id).describe(rpc_timeout=RPC_SECONDS)
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                raise OperationNotFound() from error
            raise
        return await operation_of(description, self._client)


def _settled(operation: Operation) -> bool:
    return operation.is_closed or operation.state.status is OperationStatus.WAITING


def _visible(viewer: Session | None, operation: Operation) -> Operation:
    if operation.kind is OperationKind.LOGIN:
        return operation
    if viewer is None:
        raise OperationNotFound()
    administers = ADMINISTER in viewer.permissions and operation.tenant_ids[:1] == (viewer.tenant_id,)
    if operation.user_id != viewer.user_id and not administers:
        raise OperationNotFound()
    return operation
