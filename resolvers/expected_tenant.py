"""Keep a mutation from acting in another tenant than the one that the client displays."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydantic import JsonValue

from contracts.base import is_id
from contracts.errors import WrongTenant
from contracts.operations import Operation, OperationKind
from resolvers.context import Context
from resolvers.operations.start_requests import OperationIds, StartOptions


async def check_expected_tenant(context: Context) -> None:
    """Raise WrongTenant if the session is in another tenant than the client expects; NotSignedIn without a session."""
    if context.expected_tenant is None:
        return
    viewer = await context.signed_in()
    if viewer.tenant_id != context.expected_tenant:
        raise WrongTenant(current_tenant_id=viewer.tenant_id)


async def repeated(
    context: Context,
    kind: OperationKind,
    wish: StartOptions,
    asked: Callable[[OperationIds], Sequence[JsonValue]],
    *,
    wait_seconds: float,
) -> Operation | None:
    """Return the operation that the same request has started before, if the session has left its tenant since.

    ``asked`` gives what is asked for, for each id that the operation may have. None if the session is in the expected
    tenant: then the request is to be executed. Raises WrongTenant, NotSignedIn, and IdempotencyKeyReused for another
    request.
    """
    try:
        await check_expected_tenant(context)
    except WrongTenant:
        viewer, backend = await context.signed_in(), context.backend
        for tenant_id in (context.expected_tenant or "", viewer.tenant_id) if wish.key is not None else ():
            if is_id(tenant_id, "ten"):
                ids = backend.orders.id(kind, viewer.model_copy(update={"tenant_id": tenant_id}), wish)
                for id, each in zip(ids.all, asked(ids), strict=True):
                    before = await backend.operations.started_before(id, each, wait_seconds=wait_seconds)
                    if before is not None:
                        return before
        raise
    return None
