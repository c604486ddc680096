"""Log a user in: redeem the edge's word that the password was right, and open a session."""

from __future__ import annotations

from temporalio import workflow

from activities.auth.activities import Auth
from activities.tenants.activities import Tenants
from activities.users.activities import Users
from contracts.auth import LogInCommand, NewSession, Redemption, SignIn
from contracts.operations import LoggedIn, OperationKind
from contracts.tenants import AccessRequest
from workflows.call import call
from workflows.operation import OperationRun


@workflow.defn
class LogIn:
    @workflow.run
    async def run(self, command: LogInCommand) -> LoggedIn:
        async with OperationRun(OperationKind.LOGIN) as operation:
            async with operation.step("verify_credentials"):
                identity = await call(
                    Auth.verify_credentials, Redemption(key=operation.key, reference=command.reference)
                )
                operation.identified(identity.user_id)

            operation.skip("check_mfa")

            async with operation.step("create_session"):
                tenant_id = command.tenant_id or (await call(Users.home_tenant, identity.user_id)).tenant_id
                membership = await call(
                    Tenants.check_access, AccessRequest(user_id=identity.user_id, tenant_id=tenant_id)
                )
                operation.belongs_to(tenant_id)
                operation.undo(Auth.rollback_session_creation, operation.key)
                session = await call(
                    Auth.create_session,
                    NewSession(
                        key=operation.key,
                        user_id=identity.user_id,
                        tenant_id=tenant_id,
                        role=membership.role,
                        token_hash=command.token_hash,
                    ),
                )

            async with operation.step("record_sign_in"):
                operation.undo(Auth.forget_sign_in, operation.key)
                await call(Auth.record_sign_in, SignIn(key=operation.key, session_id=session.id))

            return operation.complete(LoggedIn(user_id=identity.user_id, tenant_id=tenant_id))
