"""Create requests to start operations: derive the id, the command and the fingerprint of the input."""

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
    """Options of one start: the client's idempotency ``key``, and the id of the operation that is retried."""

    key: str | None = None
    retry_of: str | None = None

    def fingerprint(self, **fields: JsonValue) -> JsonValue:
        """Return the value that is compared when the same idempotency key is repeated."""
        return dict(fields) if self.retry_of is None else {"retry_of": self.retry_of}


@dataclass(frozen=True)
class OperationIds:
    """Id of an operation that is to be started, and its ids under the former secret keys."""

    current: str
    former: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """The current id, then the ids under the former secret keys."""
        return (self.current, *self.former)


class StartRequestFactory:
    """Creates start requests. Ids and session tokens are derived from ``keys``, the secret keys of the gateway.

    The former keys find operations that were started before the keys were rotated.
    """

    def __init__(self, keys: SecretKeys) -> None:
        self._keys = keys

    def log_in(
        self, verified: VerifiedCredentials, tenant_id: str | None, options: StartOptions
    ) -> StartRequest[LogIn, LogInCommand, LoggedIn]:
        """Return a request to log in the user with verified credentials.

        Without ``tenant_id`` the session is in the tenant that the user worked in last.
        """
        kind = OperationKind.LOGIN
        ids = self._ids(kind, "", verified.user_id, options)
        token = session_token(self._keys.current, ids.current)
        fingerprint = options.fingerprint(tenant=tenant_id)
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
            fingerprint=fingerprint,
            token=token,
            former=self._former_key_requests(ids, fingerprint),
        )

    def switch_tenant(
        self, viewer: Session, tenant_id: str, options: StartOptions
    ) -> StartRequest[SwitchTenant, SwitchTenantCommand, TenantSwitched]:
        """Return a request to switch the viewer's session to another tenant."""
        kind = OperationKind.TENANT_SWITCH
        # The id of a switch depends on the user only, so a repeated request from the new tenant finds the same switch.
        ids = self._ids(kind, "", viewer.user_id, options)
        token = session_token(self._keys.current, ids.current)
        switch = SwitchedTenants(from_tenant_id=viewer.tenant_id, to_tenant_id=tenant_id)
        fingerprint = options.fingerprint(tenant=tenant_id)
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
            fingerprint=fingerprint,
            token=token,
            former=self._former_key_requests(ids, fingerprint),
        )

    def for_viewer(
        self,
        viewer: Session,
        ids: OperationIds,
        run: Callable[[Workflow, Command], Awaitable[Result]],
        command: Command,
        fingerprint: JsonValue,
        *,
        former_fingerprints: Sequence[JsonValue] | None = None,
    ) -> StartRequest[Workflow, Command, Result]:
        """Return a request for an operation that belongs to the viewer and the current tenant.

        Args:
            ids: The result of ``operation_ids``.
            former_fingerprints: The fingerprint under each former key, if it depends on the secret key.
        """
        kind = kind_of(ids.current)
        assert kind is not None
        previous = [fingerprint] * len(ids.former) if former_fingerprints is None else former_fingerprints
        return StartRequest(
            id=ids.current,
            run=run,
            command=command,
            state=OperationState.first(kind, utc_now(), started_by=viewer.user_id),
            user_id=viewer.user_id,
            tenant_id=viewer.tenant_id,
            fingerprint=fingerprint,
            former=tuple(FormerStartRequest(id, former) for id, former in zip(ids.former, previous, strict=True)),
        )

    def session_tokens(self, operation_id: str) -> tuple[str, ...]:
        """Return the possible tokens of the session that this login or switch creates, one for each secret key."""
        return tuple(session_token(key, operation_id) for key in self._keys.all)

    def operation_ids(self, kind: OperationKind, viewer: Session, options: StartOptions) -> OperationIds:
        """Return the ids of an operation that belongs to the viewer and the current tenant."""
        return self._ids(kind, viewer.tenant_id, viewer.user_id, options)

    def _ids(self, kind: OperationKind, tenant_id: str, user_id: str, options: StartOptions) -> OperationIds:
        """Derive the ids from the idempotency key; without one the id is random."""
        keys = self._keys.all if options.key is not None else (self._keys.current,)
        current, *former = (
            operation_id(key, kind, tenant_id=tenant_id, user_id=user_id, key=options.key) for key in keys
        )
        return OperationIds(current, tuple(former))

    def _former_key_requests(self, ids: OperationIds, fingerprint: JsonValue) -> tuple[FormerStartRequest, ...]:
        """Return the same request under each former secret key, with its session token."""
        pairs = zip(ids.former, self._keys.previous, strict=False)  # empty without an idempotency key
        return tuple(FormerStartRequest(id, fingerprint, session_token(key, id)) for id, key in pairs)
