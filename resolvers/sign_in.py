"""Signing in, moving to another tenant and signing out: what makes and ends the viewer's own session."""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

from contracts.auth import Credentials, Session
from contracts.email_addresses import email_key
from contracts.errors import DomainError, NotSignedIn
from contracts.logs import learn
from contracts.operation_records import Subject
from contracts.operations import Operation, OperationKind, OperationStatus, StepStatus
from infrastructure.fair_semaphore import Requester
from resolvers.access import public_login
from resolvers.context import Context
from resolvers.inputs import LoginInput, SubmitMfaCodeInput, SwitchTenantInput
from resolvers.orders import Wish
from resolvers.viewer import Viewer

_HERE_SECONDS = 5.0
"""How long a switch to the current tenant is awaited at least: it changes nothing and completes at once."""


class SignIn(NamedTuple):
    """An operation that makes a session. ``viewer`` is that session's, once the operation has completed."""

    operation: Operation
    session_token: str | None
    viewer: Viewer | None


async def log_in(context: Context, input: LoginInput) -> SignIn:
    """InvalidCredentials and RateLimited come before any operation is started."""
    credentials = Credentials(email=input.email, password=input.password)
    account = context.backend.pseudonyms.account(email_key(input.email))
    learn(account=account)
    verified = await context.backend.credentials.verify(
        context.caller(account=account), credentials, context.client, key=input.idempotency_key
    )
    order = context.backend.orders.log_in(verified, input.tenant_id, Wish(key=input.idempotency_key))
    order = order.concerning(Subject(label=input.email, target_id=verified.user_id))
    async with context.backend.login_quota.starting(Requester(context.client.network, account)) as started:
        operation = await context.start(order, wait_seconds=0)
        started(operation)
    operation = await context.backend.operations.settle(operation, wait_seconds=input.wait_seconds)
    context.forget()
    if _passed_second_factor(operation) and not context.started_login(operation.id):
        # Who passed it holds the token already; a password and an idempotency key do not stand in for the factor.
        return SignIn(public_login(operation), None, None)
    signed = await signed_in(context, operation, order.token_of(operation))
    if signed.viewer is not None:
        _know_device(context, input.email)
    return signed


async def submit_mfa_code(context: Context, input: SubmitMfaCodeInput) -> SignIn:
    """InvalidMfaCode with the tries left, Conflict where no code is awaited, OperationNotFound, RateLimited."""
    operations = context.backend.operations
    access, requester = context.access(await context.viewer()), await context.requester()
    login = await operations.login_awaiting_code(access, input.operation_id, requester)
    async with context.backend.throttle.trying_code(login.user_id):
        await operations.submit_mfa_code(login, input.code)
    operation = await operations.after_code(login, wait_seconds=input.wait_seconds)
    signed = await signed_in(context, operation, context.token_of_login(operation.id))
    session = await context.onlooker()
    if signed.viewer is not None and session is not None:
        with suppress(DomainError):  # it is known another time
            user = await context.loaders(context.caller(session)).user.load(session.user_id)
            if user is not None:
                _know_device(context, user.email)
    return signed


async def switch_tenant(context: Context, input: SwitchTenantInput) -> SignIn:
    """NotSignedIn without a session, unless it was this very switch, sent again for its lost answer, that ended it."""
    viewer, wish = await context.viewer(), Wish(key=input.idempotency_key)
    if viewer is not None:
        order = context.backend.orders.switch_tenant(viewer, input.tenant_id, wish)
    else:
        before = await context.session_before()
        order = context.backend.orders.switch_tenant(before.session, input.tenant_id, wish)
        if not any(before.was_ended_by(id) for id in order.ids):
            raise NotSignedIn()
    if viewer is not None and (subject := await tenant_subject(context, viewer, input.tenant_id)) is not None:
        order = order.concerning(subject)
    is_here = order.command.from_tenant_id == order.command.to_tenant_id
    wait_seconds = max(input.wait_seconds, _HERE_SECONDS) if is_here else input.wait_seconds
    operation = await context.start(order, wait_seconds=wait_seconds)
    return await signed_in(context, operation, order.token_of(operation))


async def tenant_subject(context: Context, viewer: Session, tenant_id: str) -> Subject | None:
    """The tenant that a switch leads to, for the record; None if the viewer may not see it, or it cannot be loaded.

    Administrators of the tenant that the switch begins in need not be members of it, so the subject is private.
    """
    with suppress(DomainError):
        tenant = await context.loaders(context.caller(viewer)).tenant.load(tenant_id)
        if tenant is not None:
            return Subject(label=tenant.name, target_id=tenant.id, is_private=True)
    return None


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


def _passed_second_factor(login: Operation) -> bool:
    return any(step.name == "check_mfa" and step.status is StepStatus.COMPLETED for step in login.state.steps)


def _know_device(context: Context, email: str) -> None:
    device = context.backend.throttle.new_device(email, context.client)
    if device is not None:
        context.cookie.keep_device(device)
