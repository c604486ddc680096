"""Switch the tenant that the viewer works in: what a client sends, and how the operation is started."""

from __future__ import annotations

from contextlib import suppress

from contracts.auth import Session
from contracts.errors import DomainError, NotSignedIn
from contracts.operation_records import Subject
from contracts.validation import Id, IdempotencyKey, WaitSeconds
from resolvers.context import Context
from resolvers.inputs import Input
from resolvers.operations.start_requests import StartOptions
from resolvers.sign_in import SignInResult, to_sign_in_result

_HERE_SECONDS = 5.0
"""How long a switch to the current tenant is awaited at least: it changes nothing and completes at once."""


class SwitchTenantInput(Input):
    tenant_id: Id
    idempotency_key: IdempotencyKey | None = None
    wait_seconds: WaitSeconds = 10


async def start(context: Context, input: SwitchTenantInput) -> SignInResult:
    """NotSignedIn without a session, unless it was this very switch, sent again for its lost answer, that ended it."""
    viewer, wish = await context.viewer(), StartOptions(key=input.idempotency_key)
    if viewer is not None:
        order = context.backend.orders.switch_tenant(viewer, input.tenant_id, wish)
    else:
        before = await context.previous_session()
        order = context.backend.orders.switch_tenant(before.session, input.tenant_id, wish)
        if not any(before.was_ended_by(id) for id in order.ids):
            raise NotSignedIn()
    if viewer is not None and (subject := await tenant_subject(context, viewer, input.tenant_id)) is not None:
        order = order.concerning(subject)
    is_here = order.command.from_tenant_id == order.command.to_tenant_id
    wait_seconds = max(input.wait_seconds, _HERE_SECONDS) if is_here else input.wait_seconds
    operation = await context.start(order, wait_seconds=wait_seconds)
    return await to_sign_in_result(context, operation, order.token_of(operation))


async def tenant_subject(context: Context, viewer: Session, tenant_id: str) -> Subject | None:
    """The tenant that a switch leads to, for the record; None if the viewer may not see it, or it cannot be loaded.

    Administrators of the tenant that the switch begins in need not be members of it, so the subject is private.
    """
    with suppress(DomainError):
        tenant = await context.loaders(context.caller(viewer)).tenant.load(tenant_id)
        if tenant is not None:
            return Subject(label=tenant.name, target_id=tenant.id, is_private=True)
    return None
