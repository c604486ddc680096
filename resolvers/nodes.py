"""Things by id, whatever they are."""

from __future__ import annotations

from typing import TypeAlias

from contracts.base import is_id
from contracts.errors import DomainError, NotFound
from contracts.files import File
from contracts.operations import Operation, OperationKind, kind_of
from contracts.tenants import Tenant
from contracts.users import User
from contracts.workspaces import Workspace
from infrastructure.tasks import concurrently
from resolvers.context import Context
from resolvers.error_translation import domain_error
from resolvers.expected_tenant import check_expected_tenant
from resolvers.inputs import CancelOperationInput
from resolvers.operations.access import OperationAccess
from resolvers.operations.operations import StartedOperation
from resolvers.sign_in import keep_session_of
from resolvers.viewer import signed_in_viewer

Thing: TypeAlias = User | Tenant | Workspace | File | Operation


async def operation(context: Context, id: str) -> Operation:
    """Without a session only logins are open; OperationNotFound where the viewer may not see it."""
    granted = await access(context, id)
    operation = await granted.shown(await context.load_operation(id))
    await keep_session_of(context, operation)
    return operation


async def cancel(context: Context, input: CancelOperationInput) -> StartedOperation:
    """Ask an operation to stop and undo what it did. OperationNotFound as above, and for another client's login."""
    granted, requester = await access(context, input.id), await context.requester()
    if kind_of(input.id) not in (OperationKind.LOGIN, OperationKind.TENANT_SWITCH):
        await check_expected_tenant(context)
    return StartedOperation(await context.backend.operations.cancel(granted, input.id, requester))


async def access(context: Context, operation_id: str) -> OperationAccess:
    """By the viewer's session, which only logins do without; for the switch that ended it, by that former session."""
    viewer, kind = await context.viewer(), kind_of(operation_id)
    if viewer is None and kind is OperationKind.TENANT_SWITCH:
        before = await context.session_before()
        if before.was_ended_by(operation_id):
            return context.access_to_switch(before)
    return context.access(viewer if kind is OperationKind.LOGIN else await context.signed_in())


async def node(context: Context, id: str) -> Thing:
    """NotFound where there is no such thing or the viewer may not see it."""
    if kind_of(id) is not None:
        return await operation(context, id)
    viewer = await signed_in_viewer(context)
    loaders = context.loaders(viewer.caller)
    found: Thing | None = None
    if is_id(id, "usr"):
        found = await loaders.user.load(id)
    elif is_id(id, "ten"):
        found = await loaders.tenant.load(id)
    elif is_id(id, "fil"):
        found = await loaders.file.load(id)
    elif is_id(id, "wsp"):
        found = await loaders.workspace.load(id)
    if found is None:
        raise NotFound()
    return found


async def nodes(context: Context, ids: tuple[str, ...]) -> list[Thing | DomainError]:
    """In the order asked for; an error stands in the place of what is not to be had."""
    return await concurrently(*(_node_or_error(context, id) for id in ids))


async def _node_or_error(context: Context, id: str) -> Thing | DomainError:
    try:
        return await node(context, id)
    except Exception as error:
        answer = domain_error(error)
        if answer is None:
            raise
        return answer
