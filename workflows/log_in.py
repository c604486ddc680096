"""The workflow LogIn: redeem the reference of verified credentials, check a second factor, and open a session."""

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
    """Sign a user in. The password was verified before the start, so it never enters a workflow."""

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
                    await self._mfa.wait(operation, identity)
            operation.set_user(identity.user_id)

            async with operation.step("create_session"):
                tenant_id = command.tenant_id
                if not tenant_id:
                    tenant_id = (await operation.call(Users.get_home_tenant, identity.user_id)).tenant_id
                membership = await operation.call(
                    Tenants.check_access, AccessRequest(user_id=identity.user_id, tenant_id=tenant_id)
                )
                operation.set_tenants(tenant_id)
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
        """Check an MFA code that the user has entered.

        Raises:
            InvalidMfaCode: the code is wrong; ``attempts_left`` states how many attempts are left.
            LoginNotWaiting: the login does not wait for a code.
        """
        await self._mfa.submit(code)
