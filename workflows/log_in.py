"""Log a user in: redeem the edge's word that the password was right, and open a session."""

from __future__ import annotations

from temporalio import workflow

from activities.auth.activities import Auth
from activities.tenants.activities import Tenants
from activities.users.activities import Users
from contracts.auth import LogInCommand, NewSession, Redemption, SignIn
from contracts.operations import LoggedIn, OperationKind
from contracts.tenants import AccessRequest
from workflows.mfa import MfaCheck
from workflows.operation import OperationRun


@workflow.defn
class LogIn:
    def __init__(self) -> None:
        self._mfa = MfaCheck()

    @workflow.run
    async def run(self, command: LogInCommand) -> LoggedIn:
        async with OperationRun(OperationKind.LOGIN) as operation:
            async with operation.step("verify_credentials"):
                identity = await operation.call(
                    Auth.verify_credentials, Redemption(key=operation.key, reference=command.reference)
                )

            if identity.mfa_method is None:
                operation.skip("check_mfa")
            else:
                async with operation.step("check_mfa"):
                    await self._mfa.passed(operation, identity)
            operation.identified(identity.user_id)

            async with operation.step("create_session"):
                tenant_id = command.tenant_id or (await operation.call(Users.home_tenant, identity.user_id)).tenant_id
                membership = await operation.call(
                    Tenants.check_access, AccessRequest(user_id=identity.user_id, tenant_id=tenant_id)
                )
                operation.belongs_to(tenant_id)
                session = await operation.call(
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
                await operation.call(Auth.record_sign_in, SignIn(key=operation.key, session_id=session.id))

            return operation.complete(LoggedIn(user_id=identity.user_id, tenant_id=tenant_id))

    @workflow.update
    async def submit_mfa_code(self, code: str) -> None:
        """A code from the user. A wrong one fails the update with InvalidMfaCode and the tries left."""
        await self._mfa.submit(code)
