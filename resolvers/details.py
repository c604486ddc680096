"""Who and what an operation is about, as far as whoever looks at it may know."""

from __future__ import annotations

from typing import NamedTuple

from contracts.calls import Caller
from contracts.operations import LoggedIn, Operation, OperationKind, TenantSwitched
from contracts.tenants import Tenant
from contracts.users import User
from resolvers.context import Context


class SwitchOutcome(NamedTuple):
    tenant: Tenant
    user: User
    permissions: tuple[str, ...]


async def started_by(context: Context, operation: Operation) -> User | None:
    """None for a login that has not identified anybody yet."""
    user_id = operation.state.started_by
    return await _user(context, operation, user_id) if user_id else None


async def tenant(context: Context, operation: Operation) -> Tenant | None:
    """The tenant it belongs to; None for a login that has found none yet."""
    result = operation.state.result
    own = operation.tenant_ids[0] if operation.tenant_ids else None
    tenant_id = own or (result.tenant_id if isinstance(result, LoggedIn) else None)
    return await _tenant(context, operation, tenant_id) if tenant_id else None


async def from_tenant(context: Context, operation: Operation) -> Tenant | None:
    switch = operation.state.switch
    return await _tenant(context, operation, switch.from_tenant_id) if switch else None


async def to_tenant(context: Context, operation: Operation) -> Tenant | None:
    """None where whoever looks is no member of it."""
    switch = operation.state.switch
    return await _tenant(context, operation, switch.to_tenant_id) if switch else None


async def switch_outcome(context: Context, operation: Operation) -> SwitchOutcome | None:
    """None before the switch is through, and to an administrator of the old tenant who cannot see the new one."""
    result = operation.state.result
    if not isinstance(result, TenantSwitched):
        return None
    loaders = context.loaders(await _onlooker(context, operation))
    loading = loaders.tenant.load(result.tenant_id), loaders.user.load(result.user_id)  # both batches leave at once
    tenant, user = await loading[0], await loading[1]
    return SwitchOutcome(tenant, user, result.permissions) if tenant and user else None


async def _user(context: Context, operation: Operation, user_id: str) -> User | None:
    return await context.loaders(await _onlooker(context, operation)).user.load(user_id)


async def _tenant(context: Context, operation: Operation, tenant_id: str) -> Tenant | None:
    return await context.loaders(await _onlooker(context, operation)).tenant.load(tenant_id)


async def _onlooker(context: Context, operation: Operation) -> Caller:
    """On whose behalf its people and places are looked up: the viewer's; for a login its own user's, whoever looks."""
    if operation.kind is OperationKind.LOGIN:
        return Caller(user_id=operation.state.started_by, request_id=context.request_id)
    return context.caller(await context.viewer())
