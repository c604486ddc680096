"""Signing in, moving to another tenant and signing out: what makes and ends the viewer's own session."""

from __future__ import annotations

from typing import NamedTuple

from contracts.auth import Credentials
from contracts.operations import Operation, OperationStatus
from resolvers.context import Context
from resolvers.inputs import LoginInput, RetryOperationInput, SwitchTenantInput
from resolvers.operations import Started
from resolvers.viewer import Viewer


class SignIn(NamedTuple):
    """An operation that makes a session. ``viewer`` is that session's, once the operation has completed."""

    operation: Operation
    session_token: str | None
    viewer: Viewer | None


async def log_in(context: Context, input: LoginInput) -> SignIn:
    """InvalidCredentials before any operation is started."""
    credentials = Credentials(email=input.email, password=input.password)
    verified = await context.backend.auth.verify_credentials(context.caller(), credentials)
    started = await context.backend.operations.log_in(
        verified, input.tenant_id, key=input.idempotency_key, wait_seconds=input.wait_seconds
    )
    return await _signed_in(context, started)


async def switch_tenant(context: Context, input: SwitchTenantInput) -> SignIn:
    started = await context.backend.operations.switch_tenant(
        await context.signed_in(), input.tenant_id, key=input.idempotency_key, wait_seconds=input.wait_seconds
    )
    return await _signed_in(context, started)


async def retry(context: Context, input: RetryOperationInput) -> SignIn:
    """Start a failed operation again; where it makes no session, there is neither token nor viewer."""
    started = await context.backend.operations.retry(
        await context.signed_in(), input.id, key=input.idempotency_key, wait_seconds=input.wait_seconds
    )
    return await _signed_in(context, started)


async def log_out(context: Context) -> None:
    session = await context.viewer()
    context.cookie.drop()  # also the cookie of a session that has ended already
    session = session or await context.signed_in()
    await context.backend.auth.end_session(context.caller(session), session.id)


async def _signed_in(context: Context, started: Started) -> SignIn:
    operation, token = started
    viewer = None
    if token is not None and operation.state.status is OperationStatus.COMPLETED:
        session = await context.backend.sessions.find(token, request_id=context.request_id)
        if session is not None:  # None: an old idempotency key, whose session has ended since
            context.cookie.keep(token, session)
            viewer = Viewer(context, session)
    return SignIn(operation, token, viewer)
