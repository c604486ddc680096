"""What each kind of operation is started with: its id, its command, and what the client asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pydantic import JsonValue

from contracts.auth import LogInCommand, Session, VerifiedCredentials
from contracts.base import utc_now
from contracts.operations import (
    LoggedIn,
    OperationKind,
    OperationState,
    SwitchedTenants,
    TenantSwitched,
    kind_of,
    operation_id,
)
from contracts.tenants import SwitchTenantCommand
from resolvers.start import Command, Order, Result, Workflow
from resolvers.tokens import session_token, token_hash
from workflows.log_in import LogIn
from workflows.switch_tenant import SwitchTenant


@dataclass(frozen=True)
class Wish:
    """A client's word on one order: ``key`` is its idempotency key, ``again`` the operation that is started again."""

    key: str | None = None
    again: str | None = None

    def asked(self, **what: JsonValue) -> JsonValue:
        """What is compared where the same key comes again."""
        return dict(what) if self.again is None else {"again": self.again}


class Orders:
    """``secret`` is the edge's key, from which ids and tokens are derived."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def log_in(
        self, verified: VerifiedCredentials, tenant_id: str | None, wish: Wish
    ) -> Order[LogIn, LogInCommand, LoggedIn]:
        """A login for whoever gave the right password; ``tenant_id`` None is the tenant they work in."""
        kind = OperationKind.LOGIN
        login_id = operation_id(self._secret, kind, tenant_id="", user_id=verified.user_id, key=wish.key)
        token = session_token(self._secret, login_id)
        return Order(
            id=login_id,
            run=LogIn.run,
            command=LogInCommand(
                reference=verified.reference,
                user_id=verified.user_id,
                tenant_id=tenant_id,
                token_hash=token_hash(token),
            ),
            state=OperationState.first(kind, utc_now()),
            user_id=verified.user_id,
            tenant_id=None,
            asked=wish.asked(tenant=tenant_id),
            token=token,
        )

    def switch_tenant(
        self, viewer: Session, tenant_id: str, wish: Wish
    ) -> Order[SwitchTenant, SwitchTenantCommand, TenantSwitched]:
        """A switch of the viewer's session to another tenant."""
        kind = OperationKind.TENANT_SWITCH
        # A switch is the user's, not a tenant's: sent again from the new tenant, its key still names it.
        switch_id = operation_id(self._secret, kind, tenant_id="", user_id=viewer.user_id, key=wish.key)
        token = session_token(self._secret, switch_id)
        switch = SwitchedTenants(from_tenant_id=viewer.tenant_id, to_tenant_id=tenant_id)
        return Order(
            id=switch_id,
            run=SwitchTenant.run,
            command=SwitchTenantCommand(
                user_id=viewer.user_id,
                from_tenant_id=viewer.tenant_id,
                to_tenant_id=tenant_id,
                session_id=viewer.id,
                token_hash=token_hash(token),
            ),
            state=OperationState.first(kind, utc_now(), started_by=viewer.user_id, switch=switch),
            user_id=viewer.user_id,
            tenant_id=viewer.tenant_id,
            asked=wish.asked(tenant=tenant_id),
            token=token,
        )

    def of_viewer(
        self,
        viewer: Session,
        id: str,
        run: Callable[[Workflow, Command], Awaitable[Result]],
        command: Command,
        asked: JsonValue,
    ) -> Order[Workflow, Command, Result]:
        """One that belongs to the viewer and their tenant, by the id that ``self.id`` gave."""
        kind = kind_of(id)
        assert kind is not None
        return Order(
            id=id,
            run=run,
            command=command,
            state=OperationState.first(kind, utc_now(), started_by=viewer.user_id),
            user_id=viewer.user_id,
            tenant_id=viewer.tenant_id,
            asked=asked,
        )

    def session_token(self, operation_id: str) -> str:
        """Of the session that the login or switch makes."""
        return session_token(self._secret, operation_id)

    def id(self, kind: OperationKind, viewer: Session, wish: Wish) -> str:
        """Of an operation that belongs to the viewer and their tenant."""
        return operation_id(self._secret, kind, tenant_id=viewer.tenant_id, user_id=viewer.user_id, key=wish.key)
