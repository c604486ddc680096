"""Retry of a failed operation: starts a new operation with the command of the failed one."""

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
from resolvers.operations.onboard_user import ONBOARD_USERS
from resolvers.operations.start import Command, Result, StartRequest, Workflow
from resolvers.operations.start_requests import StartOptions
from resolvers.sign_in import SignInResult, to_sign_in_result

_REQUIRED_PERMISSIONS = MappingProxyType(
    {
        OperationKind.FILE_UPLOAD: upload_file.WRITE_FILES,
        OperationKind.FILE_PROCESSING: process_file.PROCESS_FILES,
        OperationKind.USER_ONBOARDING: ONBOARD_USERS,
    }
)
"""Permission that is required before anything is read or started, by kind of operation.

A kind without an entry checks the permission in its first step only.
"""


async def retry(context: Context, input: RetryOperationInput) -> SignInResult:
    """Start a new operation with the command of a failed one, as the viewer with the current role.

    ``session_token`` and ``viewer`` of the result are None unless the kind of operation creates a session.

    Raises:
        OperationNotRetryable: the operation has not failed, or it is a login, whose credentials are not stored.
        PermissionDenied: another user started the operation, the session is in another tenant, or a permission is
            missing.
    """
    viewer = await context.require_viewer()
    failed = await context.backend.operations.get(context.access(viewer), input.id, await context.requester())
    if failed.kind is OperationKind.LOGIN or not failed.is_closed or failed.state.status is OperationStatus.COMPLETED:
        raise OperationNotRetryable()
    if failed.user_id != viewer.user_id:
        raise PermissionDenied("Only the user who started an operation can retry it.")
    options = StartOptions(key=input.idempotency_key, retry_of=failed.id)
    if failed.kind is not OperationKind.TENANT_SWITCH:
        previous = await find_repeated_operation(
            context,
            failed.kind,
            options,
            lambda ids: [options.fingerprint()] * len(ids.all),
            wait_seconds=input.wait_seconds,
        )
        if previous is not None:
            return SignInResult(previous, None, None)
        if viewer.tenant_id not in failed.tenant_ids:
            raise PermissionDenied("Switch to the tenant that the operation belongs to first.")
        if (permission := _REQUIRED_PERMISSIONS.get(failed.kind)) is not None:
            await context.require_permission(permission)
    operations, seconds = context.backend.operations, input.wait_seconds
    start_requests = context.backend.start_requests
    match failed.kind:
        case OperationKind.TENANT_SWITCH:
            switch = await operations.load_command(failed.id, SwitchTenantCommand)
            return await _start(
                context, failed, start_requests.switch_tenant(viewer, switch.to_tenant_id, options), seconds
            )
        case OperationKind.FILE_UPLOAD:
            upload = await operations.load_command(failed.id, UploadFileCommand)
            upload_request = await upload_file.start_request(context, viewer, upload.upload_id, options)
            return await _start(context, failed, upload_request, seconds)
        case OperationKind.FILE_PROCESSING:
            processing = await operations.load_command(failed.id, ProcessFileCommand)
            process_request = await process_file.start_request(context, viewer, processing.file_id, options)
            return await _start(context, failed, process_request, seconds)
        case OperationKind.USER_ONBOARDING:
            onboarding = await operations.load_command(failed.id, OnboardUserCommand)
            onboarding_request = context.backend.onboarding_requests.retry_request(viewer, onboarding, options)
            return await _start(context, failed, onboarding_request, seconds)


async def _start(
    context: Context, failed: Operation, start_request: StartRequest[Workflow, Command, Result], seconds: float
) -> SignInResult:
    operation = await context.start(replace(start_request, retry_of=failed.id), wait_seconds=seconds)
    return await to_sign_in_result(context, operation, start_request.token_for(operation))
