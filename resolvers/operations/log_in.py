"""The login operation: its input, its start, and the submission of the code of the second factor."""

from __future__ import annotations

from contextlib import suppress

from contracts.auth import Credentials
from contracts.email_addresses import email_key
from contracts.errors import DomainError
from contracts.operation_records import Subject
from contracts.operations import Operation, StepStatus
from contracts.validation import Code, Email, Id, IdempotencyKey, Password, WaitSeconds
from infrastructure.limits.fair_semaphore import Requester
from infrastructure.observability.logging import bind
from resolvers.context import Context
from resolvers.inputs import Input
from resolvers.operations.access import redact_login
from resolvers.operations.start_requests import StartOptions
from resolvers.sign_in import SignInResult, to_sign_in_result


class LoginInput(Input):
    """Validated input of the mutation ``logIn``."""

    email: Email
    password: Password
    tenant_id: Id | None = None
    idempotency_key: IdempotencyKey | None = None
    wait_seconds: WaitSeconds = 10


class SubmitMfaCodeInput(Input):
    """Validated input of the mutation ``submitMfaCode``."""

    operation_id: Id
    code: Code
    wait_seconds: WaitSeconds = 10


async def start(context: Context, input: LoginInput) -> SignInResult:
    """Check the credentials, start a login, and wait for its session.

    Raises:
        InvalidCredentials: the e-mail address or the password is wrong; no operation was started.
        RateLimited: too many attempts; no operation was started.
    """
    credentials = Credentials(email=input.email, password=input.password)
    account = context.backend.pseudonyms.account(email_key(input.email))
    bind(account=account)
    verified = await context.backend.credentials.verify(
        context.caller(account=account), credentials, context.client, key=input.idempotency_key
    )
    request = context.backend.start_requests.log_in(verified, input.tenant_id, StartOptions(key=input.idempotency_key))
    request = request.with_subject(Subject(label=input.email, target_id=verified.user_id))
    async with context.backend.login_quota.slot(Requester(context.client.network, account)) as started:
        operation = await context.start(request, wait_seconds=0)
        started(operation)
    operation = await context.backend.operations.settle_within(operation, wait_seconds=input.wait_seconds)
    context.reset_loaders()
    if _passed_second_factor(operation) and not context.started_login(operation.id):
        # The client that passed the second factor has the token. Password and idempotency key do not replace it.
        return SignInResult(redact_login(operation), None, None)
    signed = await to_sign_in_result(context, operation, request.token_for(operation))
    if signed.viewer is not None:
        _remember_device(context, input.email)
    return signed


async def submit_mfa_code(context: Context, input: SubmitMfaCodeInput) -> SignInResult:
    """Submit the code of the second factor and wait for the session.

    Raises:
        InvalidMfaCode: the code is wrong; the error has the number of remaining attempts.
        LoginNotWaiting: the login does not wait for a code.
        OperationNotFound: there is no such login, or this client did not start it.
        RateLimited: too many attempts.
    """
    operations = context.backend.operations
    access, requester = context.access(await context.viewer()), await context.requester()
    login = await operations.load_login_awaiting_mfa_code(access, input.operation_id, requester)
    async with context.backend.throttle.code_attempt(login.user_id):
        await operations.submit_mfa_code(login, input.code)
    operation = await operations.wait_after_mfa_code(login, wait_seconds=input.wait_seconds)
    signed = await to_sign_in_result(context, operation, context.token_of_login(operation.id))
    session = await context.effective_viewer()
    if signed.viewer is not None and session is not None:
        with suppress(DomainError):  # the device will be remembered at a later login
            user = await context.loaders(context.caller(session)).user.load(session.user_id)
            if user is not None:
                _remember_device(context, user.email)
    return signed


def _passed_second_factor(login: Operation) -> bool:
    return any(step.name == "check_mfa" and step.status is StepStatus.COMPLETED for step in login.state.steps)


def _remember_device(context: Context, email: str) -> None:
    """Give the browser the token of a known device, so that attempts of other clients do not lock this one out."""
    device = context.backend.throttle.issue_device_token(email, context.client)
    if device is not None:
        context.cookie.set_device(device)
