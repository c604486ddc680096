"""Log a user in: what a client sends, how the operation is started, and its second factor."""

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
from resolvers.operations.access import public_login
from resolvers.operations.start_requests import StartOptions
from resolvers.sign_in import SignInResult, to_sign_in_result


class LoginInput(Input):
    email: Email
    password: Password
    tenant_id: Id | None = None
    idempotency_key: IdempotencyKey | None = None
    wait_seconds: WaitSeconds = 10


class SubmitMfaCodeInput(Input):
    operation_id: Id
    code: Code
    wait_seconds: WaitSeconds = 10


async def start(context: Context, input: LoginInput) -> SignInResult:
    """InvalidCredentials and RateLimited come before any operation is started."""
    credentials = Credentials(email=input.email, password=input.password)
    account = context.backend.pseudonyms.account(email_key(input.email))
    bind(account=account)
    verified = await context.backend.credentials.verify(
        context.caller(account=account), credentials, context.client, key=input.idempotency_key
    )
    order = context.backend.orders.log_in(verified, input.tenant_id, StartOptions(key=input.idempotency_key))
    order = order.concerning(Subject(label=input.email, target_id=verified.user_id))
    async with context.backend.login_quota.slot(Requester(context.client.network, account)) as started:
        operation = await context.start(order, wait_seconds=0)
        started(operation)
    operation = await context.backend.operations.settle(operation, wait_seconds=input.wait_seconds)
    context.reset_loaders()
    if _passed_second_factor(operation) and not context.started_login(operation.id):
        # Who passed it holds the token already; a password and an idempotency key do not stand in for the factor.
        return SignInResult(public_login(operation), None, None)
    signed = await to_sign_in_result(context, operation, order.token_of(operation))
    if signed.viewer is not None:
        _know_device(context, input.email)
    return signed


async def submit_mfa_code(context: Context, input: SubmitMfaCodeInput) -> SignInResult:
    """InvalidMfaCode with the tries left, Conflict where no code is awaited, OperationNotFound, RateLimited."""
    operations = context.backend.operations
    access, requester = context.access(await context.viewer()), await context.requester()
    login = await operations.login_awaiting_code(access, input.operation_id, requester)
    async with context.backend.throttle.code_attempt(login.user_id):
        await operations.submit_mfa_code(login, input.code)
    operation = await operations.after_code(login, wait_seconds=input.wait_seconds)
    signed = await to_sign_in_result(context, operation, context.token_of_login(operation.id))
    session = await context.effective_viewer()
    if signed.viewer is not None and session is not None:
        with suppress(DomainError):  # it is known another time
            user = await context.loaders(context.caller(session)).user.load(session.user_id)
            if user is not None:
                _know_device(context, user.email)
    return signed


def _passed_second_factor(login: Operation) -> bool:
    return any(step.name == "check_mfa" and step.status is StepStatus.COMPLETED for step in login.state.steps)


def _know_device(context: Context, email: str) -> None:
    device = context.backend.throttle.issue_device_token(email, context.client)
    if device is not None:
        context.cookie.keep_device(device)
