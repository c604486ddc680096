"""Signing in, moving to another tenant and signing out: what makes and ends the viewer's own session."""

from __future__ import annotations

from typing import NamedTuple

from contracts.operations import Operation, OperationKind, OperationStatus
from resolvers.context import Context
from resolvers.viewer import Viewer


class SignIn(NamedTuple):
    """An operation that makes a session. ``viewer`` is that session's, once the operation has completed."""

    operation: Operation
    session_token: str | None
    viewer: Viewer | None


async def log_out(context: Context) -> None:
    session = await context.viewer()
    context.cookie.drop()  # also the cookie of a session that has ended already
    session = session or await context.signed_in()
    await context.backend.auth.end_session(context.caller(session), session.id)


async def signed_in(context: Context, operation: Operation, token: str | None) -> SignIn:
    """The operation beside the session that it makes, if it makes one; a browser is given its token once it opens.

    A switch to the current tenant makes none: the viewer's session stays, and so do its token and cookie.
    """
    switch, viewer = operation.state.switch, None
    if switch is not None and switch.from_tenant_id == switch.to_tenant_id:
        session = await context.viewer()
        is_completed = operation.state.status is OperationStatus.COMPLETED
        return SignIn(operation, None, Viewer(context, session) if session is not None and is_completed else None)
    if token is not None and operation.kind is OperationKind.LOGIN and not operation.is_closed:
        context.cookie.keep_login(token)
    if token is not None and operation.state.status is OperationStatus.COMPLETED:
        session = await context.backend.sessions.find(token, request_id=context.request_id)
        if session is not None:  # None: an old idempotency key, whose session has ended since
            context.cookie.keep(token, session)
            context.has_signed_in(session)
            viewer = Viewer(context, session)
    return SignIn(operation, token, viewer)


async def keep_session_of(context: Context, operation: Operation) -> None:
    """Give the browser that started a login its session with the first answer that shows the login as completed."""
    is_completed_login = operation.kind is OperationKind.LOGIN and operation.state.status is OperationStatus.COMPLETED
    token = context.token_of_login(operation.id) if is_completed_login else None
    if token is not None and await context.viewer() is None:
        session = await context.session_of_login(operation.id)
        if session is not None:
            context.cookie.keep(token, session)
