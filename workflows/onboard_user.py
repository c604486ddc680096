"""The workflow OnboardUser: create a user with credentials, a membership and a workspace, and send a welcome e-mail."""

from __future__ import annotations

from temporalio import workflow

from activities.auth.activities import Auth
from activities.notifications.activities import Notifications
from activities.tenants.activities import Tenants
from activities.users.activities import Users
from activities.workspaces.activities import Workspaces
from contracts.auth import NewAuthentication, PermissionCheck
from contracts.notifications import WelcomeEmail
from contracts.operations import OperationKind, UserOnboarded
from contracts.tenants import AccessRequest, Assignment
from contracts.users import NewUser, OnboardUserCommand
from contracts.workspaces import NewWorkspace, workspace_path
from workflows.operation import OperationRun
from workflows.options import EMAIL


@workflow.defn
class OnboardUser:
    """Onboard a user into a tenant. A failed welcome e-mail does not fail the operation."""

    @workflow.run
    async def run(self, command: OnboardUserCommand) -> UserOnboarded:
        user_id, tenant_id = command.new_user_id, command.tenant_id
        async with OperationRun(OperationKind.USER_ONBOARDING) as operation:
            async with operation.step("create_user"):
                await operation.call(Auth.check_permissions, _permission(command))
                user = await operation.call(Users.create_user, _user(command, operation.key))

            async with operation.step("set_up_authentication"):
                await operation.call(Auth.set_up_authentication, _authentication(command, operation.key))

            async with operation.step("assign_to_tenant"):
                await operation.call(Tenants.assign_user_to_tenant, _assignment(command, operation.key))

            async with operation.step("create_workspace"):
                workspace = await operation.call(
                    Workspaces.create_user_workspace,
                    NewWorkspace(
                        key=operation.key, tenant_id=tenant_id, user_id=user_id, name=f"{user.name}'s workspace"
                    ),
                )

            is_welcome_sent = False
            async with operation.best_effort_step("send_welcome_email"):
                access = AccessRequest(user_id=user_id, tenant_id=tenant_id)
                tenant = await operation.call(Tenants.load_tenant_data, access)
                await operation.call(
                    Notifications.send_welcome_email,
                    WelcomeEmail(
                        key=operation.key,
                        email=user.email,
                        name=user.name,
                        tenant_name=tenant.name,
                        workspace_url=workspace_path(tenant.slug, workspace.id),
                    ),
                    EMAIL,
                )
                is_welcome_sent = True

            return operation.complete(
                UserOnboarded(user_id=user_id, workspace_id=workspace.id, welcome_email_sent=is_welcome_sent)
            )


def _permission(command: OnboardUserCommand) -> PermissionCheck:
    return PermissionCheck(
        session_id=command.session_id,
        permissions=("users:onboard",),
        user_id=command.user_id,
        tenant_id=command.tenant_id,
    )


def _user(command: OnboardUserCommand, key: str) -> NewUser:
    return NewUser(
        key=key,
        user_id=command.new_user_id,
        email=command.email,
        name=command.name,
        mfa_enabled=command.mfa_enabled,
        tenant_id=command.tenant_id,
    )


def _authentication(command: OnboardUserCommand, key: str) -> NewAuthentication:
    return NewAuthentication(
        key=key,
        user_id=command.new_user_id,
        email=command.email,
        password_hash=command.password_hash,
        totp_secret=command.totp_secret,
    )


def _assignment(command: OnboardUserCommand, key: str) -> Assignment:
    return Assignment(
        key=key,
        user_id=command.new_user_id,
        tenant_id=command.tenant_id,
        role=command.role,
        assigned_by=command.user_id,
    )
