"""Two variants of SwitchTenant that create the session before they set the tenant: with and without a patch."""

from __future__ import annotations

from collections.abc import Callable

from temporalio import workflow

from activities.auth.activities import Auth
from activities.tenants.activities import Tenants
from activities.users.activities import Users
from contracts.auth import NewSession, Role, Session, SessionReplacement
from contracts.operations import OperationKind, TenantSwitched
from contracts.tenants import AccessRequest, SwitchTenantCommand
from contracts.users import TenantChange
from workflows.operation import OperationRun


@workflow.defn(name="SwitchTenant")
class Reordered:
    """The variant without a patch, which cannot replay histories of the current release."""

    @workflow.run
    async def run(self, command: SwitchTenantCommand) -> TenantSwitched:
        return await _switch(command, session_first=lambda: True)


@workflow.defn(name="SwitchTenant")
class Patched:
    """The variant with a patch, which can replay histories of the current release."""

    @workflow.run
    async def run(self, command: SwitchTenantCommand) -> TenantSwitched:
        return await _switch(command, session_first=lambda: workflow.patched("session-first"))


async def _switch(command: SwitchTenantCommand, *, session_first: Callable[[], bool]) -> TenantSwitched:
    user_id, tenant_id = command.user_id, command.to_tenant_id
    access = AccessRequest(user_id=user_id, tenant_id=tenant_id)
    async with OperationRun(OperationKind.TENANT_SWITCH) as operation:
        async with operation.step("check_access"):
            role = (await operation.call(Tenants.check_access, access)).role
        async with operation.step("load_session"):
            old = await operation.call(Auth.get_session, command.session_id)
        if session_first():
            new = await _create_session(operation, command, role)
            await _set_tenant(operation, command)
        else:
            await _set_tenant(operation, command)
            new = await _create_session(operation, command, role)
        async with operation.step("load_tenant"):
            tenant = await operation.call(Tenants.load_tenant_data, access)
        async with operation.step("end_old_session"):
            replacement = SessionReplacement(key=operation.key, session_id=new.id, old_session_id=old.id)
            await operation.call(Auth.replace_session, replacement)
        operation.set_tenants(command.from_tenant_id, tenant.id)
        return operation.complete(TenantSwitched(tenant_id=tenant.id, user_id=user_id, permissions=new.permissions))


async def _set_tenant(operation: OperationRun, command: SwitchTenantCommand) -> None:
    async with operation.step("set_tenant"):
        change = TenantChange(key=operation.key, user_id=command.user_id, tenant_id=command.to_tenant_id)
        await operation.call(Users.update_user_tenant, change)


async def _create_session(operation: OperationRun, command: SwitchTenantCommand, role: Role) -> Session:
    async with operation.step("create_session"):
        return await operation.call(
            Auth.create_session,
            NewSession(
                key=operation.key,
                user_id=command.user_id,
                tenant_id=command.to_tenant_id,
                role=role,
                token_hash=command.token_hash,
            ),
        )
