"""Resolvers of the object fields of an operation: users, tenants, outcomes and failure, as the viewer may see them."""

from __future__ import annotations

from typing import NamedTuple

from contracts.callers import Caller
from contracts.errors import TenantNotFound
from contracts.files import File
from contracts.operations import (
    FileProcessed,
    FileUploaded,
    LoggedIn,
    Operation,
    OperationFailure,
    OperationKind,
    TenantSwitched,
    UserOnboarded,
)
from contracts.tenants import Tenant
from contracts.users import User
from contracts.workspaces import Workspace, product_url, workspace_path
from resolvers.context import Context


class SwitchOutcome(NamedTuple):
    """Result of a completed tenant switch."""

    tenant: Tenant
    user: User
    permissions: tuple[str, ...]


class FileOutcome(NamedTuple):
    """Result of a completed upload or processing of a file."""

    file: File


class OnboardingOutcome(NamedTuple):
    """Result of a completed onboarding."""

    user: User
    workspace: Workspace
    welcome_email_sent: bool


def failure(operation: Operation) -> OperationFailure | None:
    """Return why the operation did not complete; None unless it has closed without success.

    The paths of its fields start at the input of the mutation that started the operation.
    """
    failure = operation.state.failure
    if failure is None or not operation.state.status.is_closed:
        return None
    fields = tuple(field.model_copy(update={"path": ("input", *field.path)}) for field in failure.fields)
    return failure.model_copy(update={"fields": fields})


async def started_by(context: Context, operation: Operation) -> User | None:
    """Return the user who started the operation; None for a login that has not yet identified a user."""
    user_id = operation.state.started_by
    return await _user(context, operation, user_id) if user_id else None


async def tenant(context: Context, operation: Operation) -> Tenant | None:
    """Return the tenant that the operation belongs to; None for a login that has not yet found a tenant."""
    result = operation.state.result
    own = operation.tenant_ids[0] if operation.tenant_ids else None
    tenant_id = own or (result.tenant_id if isinstance(result, LoggedIn) else None)
    return await _tenant(context, operation, tenant_id) if tenant_id else None


async def from_tenant(context: Context, operation: Operation) -> Tenant | None:
    """Return the tenant in which a tenant switch started; None for other kinds, or if the viewer may not see it."""
    switch = operation.state.switch
    return await _tenant(context, operation, switch.from_tenant_id) if switch else None


async def to_tenant(context: Context, operation: Operation) -> Tenant | None:
    """Return the tenant to which a tenant switch leads; None for other kinds, or if the viewer is not a member."""
    switch = operation.state.switch
    return await _tenant(context, operation, switch.to_tenant_id) if switch else None


async def switch_outcome(context: Context, operation: Operation) -> SwitchOutcome | None:
    """Return the result of a tenant switch.

    None until the switch has completed, and for an administrator of the old tenant who cannot see the new one.
    """
    result = operation.state.result
    if not isinstance(result, TenantSwitched):
        return None
    loaders = context.loaders(await _effective_caller(context, operation))
    loading = (
        loaders.tenant.load(result.tenant_id),
        loaders.user.load(result.user_id),
    )  # both batches start before the first await
    tenant, user = await loading[0], await loading[1]
    return SwitchOutcome(tenant, user, result.permissions) if tenant and user else None


async def file_outcome(context: Context, operation: Operation) -> FileOutcome | None:
    """Return the file of an upload or processing; None until it has completed, or if the viewer may not see it."""
    result = operation.state.result
    if not isinstance(result, FileUploaded | FileProcessed):
        return None
    file = await context.loaders(await _effective_caller(context, operation)).file.load(result.file_id)
    return FileOutcome(file) if file else None


async def onboarding_outcome(context: Context, operation: Operation) -> OnboardingOutcome | None:
    """Return the result of an onboarding.

    None until it has completed, or if the viewer may not see the new user or the workspace.
    """
    result = operation.state.result
    if not isinstance(result, UserOnboarded):
        return None
    loaders = context.loaders(await _effective_caller(context, operation))
    loading = loaders.user.load(result.user_id), loaders.workspace.load(result.workspace_id)
    user, workspace = await loading[0], await loading[1]
    return OnboardingOutcome(user, workspace, result.welcome_email_sent) if user and workspace else None


async def workspace_link(context: Context, workspace: Workspace) -> str:
    """Return the URL of the workspace in the product.

    Raises:
        TenantNotFound: the viewer is no longer a member of the workspace's tenant.
    """
    caller = context.caller(await context.effective_viewer())
    tenant = await context.loaders(caller).tenant.load(workspace.tenant_id)
    if tenant is None:
        raise TenantNotFound()
    return product_url(context.backend.app_url, workspace_path(tenant.slug, workspace.id))


async def _user(context: Context, operation: Operation, user_id: str) -> User | None:
    return await context.loaders(await _effective_caller(context, operation)).user.load(user_id)


async def _tenant(context: Context, operation: Operation, tenant_id: str) -> Tenant | None:
    return await context.loaders(await _effective_caller(context, operation)).tenant.load(tenant_id)


async def _effective_caller(context: Context, operation: Operation) -> Caller:
    """Return the principal that loads the users and tenants of an operation.

    This is the viewer; for a login that the viewer does not own it is the user of the login.
    """
    viewer = await context.effective_viewer()
    user_id = operation.state.started_by
    if operation.kind is OperationKind.LOGIN and (viewer is None or viewer.user_id != user_id):
        return Caller(user_id=user_id, request_id=context.request_id)
    return context.caller(viewer)
