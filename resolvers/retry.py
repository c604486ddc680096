"""Starting a failed operation again, with what it was started with before."""

from __future__ import annotations

from contracts.auth import Session
from contracts.errors import OperationNotRetryable, PermissionDenied
from contracts.files import ProcessFileCommand, UploadFileCommand
from contracts.operations import Operation, OperationKind, OperationStatus
from contracts.tenants import SwitchTenantCommand
from contracts.users import OnboardUserCommand
from resolvers import files
from resolvers.context import Context
from resolvers.inputs import RetryOperationInput
from resolvers.orders import Newcomer, Wish
from resolvers.sign_in import SignIn, signed_in
from resolvers.start import Command, Order, Result, Workflow


async def retry(context: Context, input: RetryOperationInput) -> SignIn:
    """As a new operation, by the viewer as they now are; where it makes no session, there is neither token nor viewer.

    OperationNotRetryable unless it has failed, and for a login, whose credentials nobody keeps. PermissionDenied for
    somebody else's.
    """
    viewer = await context.signed_in()
    failed = await context.backend.operations.get(viewer, input.id)
    if failed.kind is OperationKind.LOGIN or not failed.is_closed or failed.state.status is OperationStatus.COMPLETED:
        raise OperationNotRetryable()
    if failed.user_id != viewer.user_id:
        raise PermissionDenied("Only who started an operation can start it again.")
    wish = Wish(key=input.idempotency_key, again=failed.id)
    match failed.kind:
        case OperationKind.TENANT_SWITCH:
            return await _switch(context, viewer, failed, wish, input.wait_seconds)
        case OperationKind.FILE_UPLOAD:
            return await _upload(context, viewer, failed, wish, input.wait_seconds)
        case OperationKind.FILE_PROCESSING:
            return await _process(context, viewer, failed, wish, input.wait_seconds)
        case OperationKind.USER_ONBOARDING:
            return await _onboard(context, viewer, failed, wish, input.wait_seconds)


async def _switch(context: Context, viewer: Session, failed: Operation, wish: Wish, seconds: float) -> SignIn:
    before = await context.backend.operations.command(failed.id, SwitchTenantCommand)
    return await _start(context, context.backend.orders.switch_tenant(viewer, before.to_tenant_id, wish), seconds)


async def _upload(context: Context, viewer: Session, failed: Operation, wish: Wish, seconds: float) -> SignIn:
    before = await context.backend.operations.command(failed.id, UploadFileCommand)
    _at_home(viewer, before.tenant_id)
    return await _start(context, await files.upload_order(context, viewer, before.upload_id, wish), seconds)


async def _process(context: Context, viewer: Session, failed: Operation, wish: Wish, seconds: float) -> SignIn:
    before = await context.backend.operations.command(failed.id, ProcessFileCommand)
    _at_home(viewer, before.tenant_id)
    return await _start(context, await files.process_order(context, viewer, before.file_id, wish), seconds)


async def _onboard(context: Context, viewer: Session, failed: Operation, wish: Wish, seconds: float) -> SignIn:
    """The newcomer's password and second factor stay: whoever was told of them need not be told again."""
    before = await context.backend.operations.command(failed.id, OnboardUserCommand)
    _at_home(viewer, before.tenant_id)
    orders = context.backend.orders
    newcomer = Newcomer(
        email=before.email,
        name=before.name,
        role=before.role,
        password_hash=before.password_hash,
        totp_secret=before.totp_secret,
    )
    id = orders.id(failed.kind, viewer, wish)
    return await _start(context, orders.onboard_user(id, viewer, newcomer, wish.asked()), seconds)


async def _start(context: Context, order: Order[Workflow, Command, Result], seconds: float) -> SignIn:
    operation = await context.start(order, wait_seconds=seconds)
    return await signed_in(context, operation, order.token)


def _at_home(viewer: Session, tenant_id: str) -> None:
    if viewer.tenant_id != tenant_id:
        raise PermissionDenied("Switch to the tenant that the operation belongs to first.")
