"""The workflow SwitchTenant: set the user's current tenant and replace the session by one in that tenant."""

from __future__ import annotations

from temporalio import workflow

from activities.auth.activities import Auth
from activities.tenants.activities import Tenants
from activities.users.activities import Users
from contracts.auth import NewSession, SessionReplacement
from contracts.operations import OperationKind, TenantSwitched
from contracts.tenants import AccessRequest, SwitchTenantCommand
from contracts.users import TenantChange
from workflows.operation import OperationRun


@workflow.defn
class SwitchTenant:
    """Switch the tenant in which a user works. A failure restores the previous tenant and the previous session."""

    @workflow.run
    async def run(self, command: SwitchTenantCommand) -> TenantSwitched:
        user_id, tenant_id = command.user_id, command.to_tenant_id
        access = AccessRequest(user_id=user_id, tenant_id=tenant_id)
        async with OperationRun(OperationKind.TENANT_SWITCH) as operation:
            async with operation.step("check_access"):
                membership = await operation.call(Tenants.check_access, access)

            async with operation.step("load_session"):
                old = await operation.call(Auth.get_session, command.session_id)

            if old.tenant_id == tenant_id:  # a switch to the current tenant changes nothing
                for name in ("set_tenant", "create_session", "load_tenant", "end_old_session"):
                    operation.skip(name)
                return operation.complete(
                    TenantSwitched(tenant_id=tenant_id, user_id=user_id, permissions=old.permissions)
                )

            async with operation.step("set_tenant"):
                await operation.call(
                    Users.update_user_tenant, TenantChange(key=operation.key, user_id=user_id, tenant_id=tenant_id)
                )

            async with operation.step("create_session"):
                new = await operation.call(
                    Auth.create_session,
                    NewSession(
                        key=operation.key,
                        user_id=user_id,
                        tenant_id=tenant_id,
                        role=membership.role,
                        token_hash=command.token_hash,
                        replaces=old.id,
                    ),
                )

            async with operation.step("load_tenant"):
                tenant = await operation.call(Tenants.load_tenant_data, access)

            async with operation.step("end_old_session"):
                await operation.call(
                    Auth.replace_session,
                    SessionReplacement(key=operation.key, session_id=new.id, old_session_id=old.id),
                )

            operation.set_tenants(command.from_tenant_id, tenant.id)
            return operation.complete(TenantSwitched(tenant_id=tenant.id, user_id=user_id, permissions=new.permissions))
