"""Starting a failed operation again, with what it was started with before."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from contracts.errors import OperationNotRetryable, PermissionDenied
from contracts.files import ProcessFileCommand, UploadFileCommand
from contracts.operations import Operation, OperationKind, OperationStatus
from contracts.tenants import SwitchTenantCommand
from contracts.users import OnboardUserCommand
from resolvers.context import Context
from resolvers.expected_tenant import find_repeated_operation
from resolvers.inputs import RetryOperationInput
from resolvers.operations import process_file, upload_file
from resolvers.operations.onboard_user import ONBOARD
from resolvers.operations.start import Command, Result, StartRequest, Workflow
from resolvers.operations.start_requests import StartOptions
from resolvers.sign_in import SignInResult, to_sign_in_result

_REQUIRED = MappingProxyType(
    {
        OperationKind.FILE_UPLOAD: upload_file.WRITE,
        OperationKind.FILE_PROCESSING: process_file.PROCESS,
        OperationKind.USER_ONBOARDING: ONBOARD,
    }
)
"""The permission that a kind of operation of a tenant requires before anything is read or started.

A kind without an entry checks the permission in its first step only.
"""


async def retry(context: Context, input: RetryOperationInput) -> SignInResult:
    """As a new operation, by the viewer as they now are; where it makes no session, there is neither token nor viewer.

    OperationNotRetryable unless it has failed, and for a login, whose credentials nobody keeps. PermissionDenied for
    somebody else's.
    """
    viewer = await context.require_viewer()
    failed = await context.backend.operations.get(context.access(viewer), input.id, await context.requester())
    if failed.kind is OperationKind.LOGIN or not failed.is_closed or failed.state.status is OperationStatus.COMPLETED:
        raise OperationNotRetryable()
    if failed.user_id != viewer.user_id:
        raise PermissionDenied("Only who started an operation can start it again.")
    wish = StartOptions(key=input.idempotency_key, again=failed.id)
    if failed.kind is not OperationKind.TENANT_SWITCH:
        before = await find_repeated_operation(
            context, failed.kind, wish, lambda ids: [wish.asked()] * len(ids.all), wait_seconds=input.wait_seconds
        )
        if before is not None:
            return SignInResult(before, None, None)
        if viewer.tenant_id not in failed.tenant_ids:
            raise PermissionDenied("Switch to the tenant that the operation belongs to first.")
        if (permission := _REQUIRED.get(failed.kind)) is not None:
            await context.require_permission(permission)
    operations, seconds = context.backend.operations, input.wait_seconds
    orders = context.backend.orders
    match failed.kind:
        case OperationKind.TENANT_SWITCH:
            switch = await operations.command(failed.id, SwitchTenantCommand)
            return await _start(context, failed, orders.switch_tenant(viewer, switch.to_tenant_id, wish), seconds)
        case OperationKind.FILE_UPLOAD:
            upload = await operations.command(failed.id, UploadFileCommand)
            upload_order = await upload_file.order(context, viewer, upload.upload_id, wish)
            return await _start(context, failed, upload_order, seconds)
        case OperationKind.FILE_PROCESSING:
            processing = await operations.command(failed.id, ProcessFileCommand)
            process_order = await process_file.order(context, viewer, processing.file_id, wish)
            return await _start(context, failed, process_order, seconds)
        case OperationKind.USER_ONBOARDING:
            onboarding = await operations.command(failed.id, OnboardUserCommand)
            onboarding_order = context.backend.onboarding_requests.order_again(viewer, onboarding, wish)
            return await _start(context, failed, onboarding_order, seconds)


async def _start(
    context: Context, failed: Operation, order: StartRequest[Workflow, Command, Result], seconds: float
) -> SignInResult:
    operation = await context.start(replace(order, retry_of=failed.id), wait_seconds=seconds)
    return await to_sign_in_result(context, operation, order.token_of(operation))
