"""Reject a mutation if the session is in another tenant than the client displays (``X-Tenant-Id``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydantic import JsonValue

from contracts.base import is_id
from contracts.errors import WrongTenant
from contracts.operations import Operation, OperationKind
from resolvers.context import Context
from resolvers.operations.start_requests import OperationIds, StartOptions


async def check_expected_tenant(context: Context) -> None:
    """Check that the session is in the tenant that the client displays; no effect if the client sends no tenant.

    Raises:
        NotSignedIn: the client has no open session.
        WrongTenant: the session is in another tenant.
    """
    if context.expected_tenant is None:
        return
    viewer = await context.require_viewer()
    if viewer.tenant_id != context.expected_tenant:
        raise WrongTenant(current_tenant_id=viewer.tenant_id)


async def find_repeated_operation(
    context: Context,
    kind: OperationKind,
    options: StartOptions,
    fingerprints: Callable[[OperationIds], Sequence[JsonValue]],
    *,
    wait_seconds: float,
) -> Operation | None:
    """Return the operation that an earlier, equal request started before the session moved to another tenant.

    Args:
        context: the context of the mutation.
        kind: the kind of the operation.
        options: the idempotency key and other options of the request.
        fingerprints: returns the fingerprint of the request's input for each id that the operation may have.
        wait_seconds: how long to wait for the operation to close.

    Returns:
        None if the session is in the tenant that the client displays; the caller then starts the operation.

    Raises:
        NotSignedIn: the client has no open session.
        WrongTenant: the session is in another tenant, and there is no such operation.
        IdempotencyKeyReused: the idempotency key was used with other input.
    """
    try:
        await check_expected_tenant(context)
    except WrongTenant:
        viewer, backend = await context.require_viewer(), context.backend
        for tenant_id in (context.expected_tenant or "", viewer.tenant_id) if options.key is not None else ():
            if is_id(tenant_id, "ten"):
                ids = backend.start_requests.operation_ids(
                    kind, viewer.model_copy(update={"tenant_id": tenant_id}), options
                )
                for id, fingerprint in zip(ids.all, fingerprints(ids), strict=True):
                    operation = await backend.operations.find_started(id, fingerprint, wait_seconds=wait_seconds)
                    if operation is not None:
                        return operation
        raise
    return None
