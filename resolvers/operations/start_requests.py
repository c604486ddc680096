"""What each kind of operation is started with: its id, its command, and what the client asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
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
from infrastructure.signing.secret_keys import SecretKeys
from resolvers.operations.start import Command, FormerStartRequest, Result, StartRequest, Workflow
from resolvers.tokens import session_token, token_hash
from workflows.log_in import LogIn
from workflows.switch_tenant import SwitchTenant


@dataclass(frozen=True)
class StartOptions:
    """A client's word on one order: ``key`` is its idempotency key, ``again`` the operation that is started again."""

    key: str | None = None
    again: str | None = None

    def asked(self, **what: JsonValue) -> JsonValue:
        """What is compared where the same key comes again."""
        return dict(what) if self.again is None else {"again": self.again}


@dataclass(frozen=True)
class OperationIds:
    """The id of an operation that is to be started, and those that it would have under the former secret keys."""

    current: str
    former: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        return (self.current, *self.former)


class StartRequestFactory:
    """``keys`` are the edge's, from which ids and tokens are derived: under the current one, and under the former ones
    to find what was started before the keys were rotated.
    """

    def __init__(self, keys: SecretKeys) -> None:
        self._keys = keys

    def log_in(
        self, verified: VerifiedCredentials, tenant_id: str | None, wish: StartOptions
    ) -> StartRequest[LogIn, LogInCommand, LoggedIn]:
        """A login for whoever gave the right password; ``tenant_id`` None is the tenant they work in."""
        kind = OperationKind.LOGIN
        ids = self._ids(kind, "", verified.user_id, wish)
        token = session_token(self._keys.current, ids.current)
        asked = wish.asked(tenant=tenant_id)
        return StartRequest(
            id=ids.current,
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
            asked=asked,
            token=token,
            former=self._former_with_tokens(ids, asked),
        )

    def switch_tenant(
        self, viewer: Session, tenant_id: str, wish: StartOptions
    ) -> StartRequest[SwitchTenant, SwitchTenantCommand, TenantSwitched]:
        """A switch of the viewer's session to another tenant."""
        kind = OperationKind.TENANT_SWITCH
        # A switch is the user's, not a tenant's: sent again from the new tenant, its key still names it.
        ids = self._ids(kind, "", viewer.user_id, wish)
        token = session_token(self._keys.current, ids.current)
        switch = SwitchedTenants(from_tenant_id=viewer.tenant_id, to_tenant_id=tenant_id)
        asked = wish.asked(tenant=tenant_id)
        return StartRequest(
            id=ids.current,
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
            asked=asked,
            token=token,
            former=self._former_with_tokens(ids, asked),
        )

    def of_viewer(
        self,
        viewer: Session,
        ids: OperationIds,
        run: Callable[[Workflow, Command], Awaitable[Result]],
        command: Command,
        asked: JsonValue,
        *,
        formerly_asked: Sequence[JsonValue] | None = None,
    ) -> StartRequest[Workflow, Command, Result]:
        """One that belongs to the viewer and their tenant, by the ids that ``self.id`` gave.

        ``formerly_asked``: where what is asked depends on the secret key, the same under each of the former keys.
        """
        kind = kind_of(ids.current)
        assert kind is not None
        before = [asked] * len(ids.former) if formerly_asked is None else formerly_asked
        return StartRequest(
            id=ids.current,
            run=run,
            command=command,
            state=OperationState.first(kind, utc_now(), started_by=viewer.user_id),
            user_id=viewer.user_id,
            tenant_id=viewer.tenant_id,
            asked=asked,
            former=tuple(FormerStartRequest(id, each) for id, each in zip(ids.former, before, strict=True)),
        )

    def session_tokens(self, operation_id: str) -> tuple[str, ...]:
        """What the token of the session may be that the login or switch makes: one for each key."""
        return tuple(session_token(key, operation_id) for key in self._keys.all)

    def id(self, kind: OperationKind, viewer: Session, wish: StartOptions) -> OperationIds:
        """Of an operation that belongs to the viewer and their tenant."""
        return self._ids(kind, viewer.tenant_id, viewer.user_id, wish)

    def _ids(self, kind: OperationKind, tenant_id: str, user_id: str, wish: StartOptions) -> OperationIds:
        """Without an idempotency key the id is random and never comes again."""
        keys = self._keys.all if wish.key is not None else (self._keys.current,)
        current, *former = (operation_id(key, kind, tenant_id=tenant_id, user_id=user_id, key=wish.key) for key in keys)
        return OperationIds(current, tuple(former))

    def _former_with_tokens(self, ids: OperationIds, asked: JsonValue) -> tuple[FormerStartRequest, ...]:
        pairs = zip(ids.former, self._keys.previous, strict=False)  # there is none without an idempotency key
        return tuple(FormerStartRequest(id, asked, session_token(key, id)) for id, key in pairs)
