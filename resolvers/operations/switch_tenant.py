"""The operation that switches the viewer's session to another tenant: its input and its start."""

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

_MIN_WAIT_SECONDS = 5.0
"""Minimum wait for a switch to the current tenant, which changes nothing and completes immediately."""


class SwitchTenantInput(Input):
    """Validated input of the mutation ``switchTenant``."""

    tenant_id: Id
    idempotency_key: IdempotencyKey | None = None
    wait_seconds: WaitSeconds = 10


async def start(context: Context, input: SwitchTenantInput) -> SignInResult:
    """Start a switch of tenant and wait for the new session.

    Raises:
        NotSignedIn: there is no open session, unless this very switch ended it and its response was lost.
    """
    viewer, options = await context.viewer(), StartOptions(key=input.idempotency_key)
    if viewer is not None:
        request = context.backend.start_requests.switch_tenant(viewer, input.tenant_id, options)
    else:
        replaced = await context.previous_session()
        request = context.backend.start_requests.switch_tenant(replaced.session, input.tenant_id, options)
        if not any(replaced.was_ended_by(id) for id in request.ids):
            raise NotSignedIn()
    if viewer is not None and (subject := await tenant_subject(context, viewer, input.tenant_id)) is not None:
        request = request.with_subject(subject)
    is_here = request.command.from_tenant_id == request.command.to_tenant_id
    wait_seconds = max(input.wait_seconds, _MIN_WAIT_SECONDS) if is_here else input.wait_seconds
    operation = await context.start(request, wait_seconds=wait_seconds)
    return await to_sign_in_result(context, operation, request.token_for(operation))


async def tenant_subject(context: Context, viewer: Session, tenant_id: str) -> Subject | None:
    """Return the target tenant as the subject of a switch; None if the viewer may not see it or it cannot be loaded.

    The subject is private, because administrators of the old tenant need not be members of the target tenant.
    """
    with suppress(DomainError):
        tenant = await context.loaders(context.caller(viewer)).tenant.load(tenant_id)
        if tenant is not None:
            return Subject(label=tenant.name, target_id=tenant.id, is_private=True)
    return None
