"""Load, check access to, and cancel objects that clients name by a global id (GraphQL ``node``, ``operation``)."""

from __future__ import annotations

from typing import TypeAlias

from contracts.base import is_id
from contracts.errors import DomainError, NotFound
from contracts.files import File
from contracts.operations import Operation, OperationKind, kind_of
from contracts.tenants import Tenant
from contracts.users import User
from contracts.workspaces import Workspace
from infrastructure.tasks import run_concurrently
from resolvers.context import Context
from resolvers.error_translation import domain_error
from resolvers.expected_tenant import check_expected_tenant
from resolvers.inputs import CancelOperationInput
from resolvers.operations.access import OperationAccess
from resolvers.operations.lifecycle import StartedOperation
from resolvers.sign_in import set_cookie_of_completed_login
from resolvers.viewer import require_viewer

NodeObject: TypeAlias = User | Tenant | Workspace | File | Operation
"""A contract that the GraphQL interface Node can represent."""


async def load_operation(context: Context, id: str) -> Operation:
    """Load an operation as the client may see it; without a session only a login.

    Raises:
        NotSignedIn: the client has no session and the id is not that of a login.
        OperationNotFound: the operation does not exist, or the client may not see it.
    """
    access = await access_to_operation(context, id)
    operation = await access.authorize_read(await context.load_operation(id))
    await set_cookie_of_completed_login(context, operation)
    return operation


async def cancel_operation(context: Context, input: CancelOperationInput) -> StartedOperation:
    """Request that an operation stops and undoes its completed steps; no effect on a closed operation.

    Raises:
        NotSignedIn: the client has no session and the id is not that of a login.
        OperationNotFound: the operation does not exist, the client may not see it, or it is another client's login.
        WrongTenant: the session is in another tenant than the client displays.
    """
    access, requester = await access_to_operation(context, input.id), await context.requester()
    if kind_of(input.id) not in (OperationKind.LOGIN, OperationKind.TENANT_SWITCH):
        await check_expected_tenant(context)
    return StartedOperation(await context.backend.operations.cancel(access, input.id, requester))


async def access_to_operation(context: Context, operation_id: str) -> OperationAccess:
    """Return the rules by which the client may see the operation.

    A login needs no session. A tenant switch may be seen with the session that it has ended. Any other operation needs
    a session.

    Raises:
        NotSignedIn: the operation needs a session and the client has none.
    """
    viewer, kind = await context.viewer(), kind_of(operation_id)
    if viewer is None and kind is OperationKind.TENANT_SWITCH:
        previous = await context.previous_session()
        if previous.was_ended_by(operation_id):
            return context.access_to_switch(previous)
    return context.access(viewer if kind is OperationKind.LOGIN else await context.require_viewer())


async def load_node(context: Context, id: str) -> NodeObject:
    """Load the object with this global id.

    Raises:
        NotFound: there is no such object, or the viewer may not see it.
        NotSignedIn: the client has no session and the id is not that of a login.
    """
    if kind_of(id) is not None:
        return await load_operation(context, id)
    viewer = await require_viewer(context)
    loaders = context.loaders(viewer.caller)
    found: NodeObject | None = None
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


async def load_nodes(context: Context, ids: tuple[str, ...]) -> list[NodeObject | DomainError]:
    """Load objects in the order of their ids; an object that cannot be loaded is replaced by its error."""
    return await run_concurrently(*(_node_or_error(context, id) for id in ids))


async def _node_or_error(context: Context, id: str) -> NodeObject | DomainError:
    try:
        return await load_node(context, id)
    except Exception as error:
        answer = domain_error(error)
        if answer is None:
            raise
        return answer
