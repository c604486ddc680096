"""The viewer's own session after sign-in, tenant switch and sign-out: results of mutations, and cookies."""

from __future__ import annotations

from typing import NamedTuple

from contracts.operations import Operation, OperationKind, OperationStatus
from resolvers.context import Context
from resolvers.viewer import ViewerResolver


class SignInResult(NamedTuple):
    """The result of a mutation that starts an operation which creates a session.

    Attributes:
        operation: the operation in its current state.
        session_token: the token of the session that the operation creates; None if it creates none.
        viewer: the viewer of the new session once the operation is completed, else None.
    """

    operation: Operation
    session_token: str | None
    viewer: ViewerResolver | None


async def log_out(context: Context) -> None:
    """End the client's session and clear its cookies.

    Raises:
        NotSignedIn: the client has no open session.
    """
    session = await context.viewer()
    context.cookie.clear()  # clears the cookie of an ended session, too
    session = session or await context.require_viewer()
    await context.backend.auth.end_session(context.caller(session), session.id)


async def to_sign_in_result(context: Context, operation: Operation, token: str | None) -> SignInResult:
    """Return the operation with the session that it creates, and set the browser's cookies accordingly.

    A switch to the current tenant creates no session: the viewer keeps session, token and cookie.

    Args:
        context: the context of the mutation.
        operation: a login, a tenant switch, or any operation that creates no session.
        token: the token of the session that the operation creates; None if it creates none.
    """
    switch, viewer = operation.state.switch, None
    is_completed = operation.state.status is OperationStatus.COMPLETED
    if switch is not None and switch.from_tenant_id == switch.to_tenant_id:
        session = await context.viewer()
        current = ViewerResolver(context, session) if session is not None and is_completed else None
        return SignInResult(operation, None, current)
    if token is not None and operation.kind is OperationKind.LOGIN and not operation.is_closed:
        context.cookie.set_login(token)
    if token is not None and is_completed:
        session = await context.backend.sessions.find(token, request_id=context.request_id)
        if session is not None:  # None if a repeated idempotency key names a session that has ended since
            context.cookie.set_session(token, session)
            context.set_new_session(session)
            viewer = ViewerResolver(context, session)
    return SignInResult(operation, token, viewer)


async def set_cookie_of_completed_login(context: Context, operation: Operation) -> None:
    """Set the session cookie of the browser that started a login, with the first response that shows it COMPLETED."""
    is_completed_login = operation.kind is OperationKind.LOGIN and operation.state.status is OperationStatus.COMPLETED
    token = context.token_of_login(operation.id) if is_completed_login else None
    if token is not None and await context.viewer() is None:
        session = await context.session_of_login(operation.id)
        if session is not None:
            context.cookie.set_session(token, session)
